"""The plots of `benchmarks.studies.critics`: small files, a PNG where there are many dots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.evaluation.plots import COLOURS, save
from benchmarks.studies.critics.known_scenes import CONDITIONS, COUNTS
from benchmarks.studies.critics.readings import OVERLAPS, THRESHOLDS, Readings
from benchmarks.studies.critics.tables import exact_by_count, shares_right

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HIGHEST = 22


def plot(readings: dict[str, Readings], folder: Path) -> None:
    """Draw soft against hard counts, exact counts by number of objects, and by threshold and NMS IoU."""
    save(soft_against_hard(readings), folder / "soft-against-hard.png")
    save(by_count(readings), folder / "exact-by-count.svg")
    save(by_setting(readings), folder / "settings.svg")


def soft_against_hard(readings: dict[str, Readings]) -> Figure:
    """A dot for every hard count and soft count rounded to a half; its area grows with the number of scenes."""
    figure = _figure(len(readings), 1)
    for axes, (name, found) in zip(figure.subplots(1, len(readings), squeeze=False)[0], readings.items(), strict=True):
        seen = Counter((hard, round(2 * soft) / 2) for hard, soft in zip(found.hard, found.soft, strict=True))
        hard, soft = zip(*seen, strict=True)
        axes.plot([0, _HIGHEST], [0, _HIGHEST], color="lightgrey", zorder=0)
        axes.scatter(hard, soft, s=[2 + 0.4 * number**0.75 for number in seen.values()], lw=0, color=COLOURS[0])
        axes.set(title=name, xlabel="hard count", ylabel="soft count", xlim=(-1, _HIGHEST), ylim=(-1, _HIGHEST))
    return figure


def by_count(readings: dict[str, Readings]) -> Figure:
    """A panel per critic, a line per condition."""
    figure = _figure(len(readings), 1)
    panels = figure.subplots(1, len(readings), squeeze=False, sharey=True)[0]
    for axes, (name, found) in zip(panels, readings.items(), strict=True):
        for condition, colour in zip(CONDITIONS, COLOURS, strict=False):
            axes.plot(COUNTS, exact_by_count(found, condition), color=colour, label=condition)
        axes.set(title=name, xlabel="objects in the scene", ylim=(-3, 103))
    panels[0].set_ylabel("exact count, %")
    panels[0].legend(loc="lower left")
    return figure


def by_setting(readings: dict[str, Readings]) -> Figure:
    """Thresholds above, NMS IoU below; what ships is dotted."""
    chosen = {name: found for name, found in readings.items() if found.by_threshold}
    figure = _figure(max(1, len(chosen)), 2)
    rows = figure.subplots(2, max(1, len(chosen)), squeeze=False, sharey="row")
    for column, (name, found) in enumerate(chosen.items()):
        _lines(rows[0][column], found, found.by_threshold, THRESHOLDS, found.threshold)
        _lines(rows[1][column], found, found.by_overlap, OVERLAPS, found.nms_iou)
        rows[0][column].set(title=name, xlabel="threshold")
        rows[1][column].set(xlabel="NMS IoU")
    for row in rows:
        row[0].set_ylabel("exact count, 0 to 20, %")
    if chosen:
        rows[0][0].legend(loc="lower center")
    return figure


def _lines(
    axes: object, found: Readings, counts: Sequence[Sequence[int]], tried: Sequence[float], shipped: float | None
) -> None:
    for condition, colour in zip(CONDITIONS if counts else (), COLOURS, strict=False):
        axes.plot(tried, 100 * shares_right(found, counts, condition), color=colour, label=condition)  # type: ignore[attr-defined]
    if shipped is not None:
        axes.axvline(shipped, color="grey", ls=":", lw=1)  # type: ignore[attr-defined]


def _figure(columns: int, rows: int) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(3.4 * columns, 3.2 * rows), layout="constrained")
