"""The tables of `benchmarks.studies.critics`: what the critics said of scenes, in markdown and as figures."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.evaluation.statistics import duel, rate
from benchmarks.studies.critics.cost import cost
from benchmarks.studies.critics.known_scenes import CONDITIONS, COUNTS
from benchmarks.studies.critics.readings import OVERLAPS, STEEPNESSES, THRESHOLDS, Readings
from benchmarks.studies.markdown import table
from critics import Critic

GROUPS = {"0-10": range(11), "11-20": range(11, 21)}
FAITHFUL = 0.1
"""Bound of the mean |soft - hard|: the lowest steepness within it is chosen, because its gradient reaches farthest.

A third of what is asked for along real runs, whose images are harder."""

Table = tuple[str, dict[str, object]]


def report(readings: dict[str, Readings], critics: Sequence[Critic]) -> Table:
    """Everything that is reported, and the figures in it."""
    scenes = len(next(iter(readings.values())).truth) // len(CONDITIONS)
    settings = {
        name: {"threshold": found.threshold, "nms_iou": found.nms_iou, "steepness": found.steepness}
        for name, found in readings.items()
    }
    keys = [(condition, group) for condition in CONDITIONS for group in GROUPS]
    head = ["critic", *(" ".join(key) for key in keys)]
    exact, error, faithful = [], [], []
    for name, found in readings.items():
        wrong = np.abs(np.array(found.hard) - found.truth)
        gap = np.abs(np.array(found.soft) - found.hard)
        chosen = [found.rows(condition, GROUPS[group]) for condition, group in keys]
        exact.append([name, *(rate((wrong[rows] == 0).tolist()) for rows in chosen)])
        error.append([name, *(f"{wrong[rows].mean():.2f}" for rows in chosen)])
        faithful.append([name, *(f"{gap[rows].mean():.2f}" for rows in chosen)])
    parts = [
        f"# Critics on {scenes} rendered scenes, each under {len(CONDITIONS)} conditions\n",
        "Scenes of 0 to 20 objects, as many of each count; every third shows other objects beside them. Soft and hard "
        "count are those of the object asked for.\n",
        _section("Exact count, % [95 % interval]", head, exact),
        _section("Mean absolute error of the count", head, error),
        _section("Mean |soft - hard|", head, faithful),
        "![Exact count by number of objects](exact-by-count.svg)\n",
        "![Soft against hard count](soft-against-hard.png)\n",
        "![Exact count by threshold and by NMS IoU; dotted what ships](settings.svg)\n",
    ]
    figures: dict[str, object] = {"scenes": scenes, "settings": settings}
    figures |= {"exact": _keyed(head, exact), "mae": _keyed(head, error), "soft_minus_hard": _keyed(head, faithful)}
    by_count = {name: {c: exact_by_count(found, c) for c in CONDITIONS} for name, found in readings.items()}
    mae_by_count = {name: {c: _error_by_count(found, c) for c in CONDITIONS} for name, found in readings.items()}
    for title, shares, form in (
        ("Exact count by number of objects, %", by_count, "{:.0f}"),
        ("Mean absolute error by number of objects", mae_by_count, "{:.2f}"),
    ):
        for name, by_condition in shares.items():
            rows = [[c, *map(form.format, values)] for c, values in by_condition.items()]
            parts.append(_section(f"{title}: {name}", ["", *map(str, COUNTS)], rows))
    for name, found in readings.items():
        for title, counts, tried in (
            ("threshold", found.by_threshold, THRESHOLDS),
            ("NMS IoU", found.by_overlap, OVERLAPS),
        ):
            if counts:
                rows = [
                    [f"{c}, {g}", *(f"{100 * s:.1f}" for s in shares_right(found, counts, c, GROUPS[g]))]
                    for c, g in keys
                ]
                parts.append(_section(f"Exact count by {title}, %: {name}", ["", *map(str, tried)], rows))
    costs = {critic.name: cost(critic, 128, "cpu", 9) for critic in critics}
    first = next(iter(costs))
    rows = [[name, f"{1000 * value:.1f}", f"{value / costs[first]:.2f}"] for name, value in costs.items()]
    parts.append(
        _section("Processor time of an evaluation with gradient, 128 pixels", ["critic", "ms", f"times {first}"], rows)
    )
    seconds = import_seconds()
    parts.append(f"`import critics` takes {seconds:.2f} s longer than `import torch` and loads no detector library.\n")
    figures |= {"by_count": by_count, "mae_by_count": mae_by_count, "seconds": costs, "import_seconds": seconds}
    return "\n".join(parts), figures


def sweep(readings: dict[str, Readings]) -> Table:
    """Threshold and NMS IoU in the middle of the best ones, and the lowest steepness that is faithful enough.

    The first two by exact counts of 0 to 10 objects under all conditions, and compared with what ships on the same
    scenes; the last over all counts.
    """
    figures: dict[str, object] = {}
    parts = ["# Threshold, NMS IoU and steepness, chosen on scenes that nothing is reported on\n"]
    for name, found in readings.items():
        if not found.by_threshold:
            continue
        low = found.rows(counts=GROUPS["0-10"])
        shipped = (np.array(found.hard) == found.truth)[low]
        chosen: dict[str, object] = {}
        for title, counts, tried, now in (
            ("threshold", found.by_threshold, THRESHOLDS, found.threshold),
            ("NMS IoU", found.by_overlap, OVERLAPS, found.nms_iou),
        ):
            if not counts:
                continue
            right = (np.array(counts) == np.array(found.truth)[:, None])[low]
            shares = right.mean(0)
            best = [index for index in range(len(tried)) if shares[index] >= shares.max() - 0.002]
            middle = best[len(best) // 2]
            pair = duel(right[:, middle], shipped)
            chosen |= {title: tried[middle], f"{title} shipped": now, f"{title} p": pair.p_value}
            parts.append(
                f"## {name}: {title} {tried[middle]:g}, exact {rate(right[:, middle].tolist())}; shipped {now:g}, "
                f"exact {rate(shipped.tolist())}; right with the one alone {pair.won}, with the other alone "
                f"{pair.lost} of {pair.cases}, p = {pair.p_value:.2g}\n"
            )
            parts.append(_table([title, *map(str, tried)], [["exact, %", *(f"{100 * s:.1f}" for s in shares)]]))
        gaps = np.abs(np.array(found.by_steepness) - np.array(found.hard)[:, None]).mean(0)
        faithful = [s for s, gap in zip(STEEPNESSES, gaps, strict=True) if gap <= FAITHFUL]
        chosen["steepness"] = faithful[0] if faithful else STEEPNESSES[-1]
        parts.append(f"## {name}: steepness {chosen['steepness']:g}; shipped {found.steepness:g}\n")
        row = ["mean abs(soft - hard)", *(f"{gap:.3f}" for gap in gaps)]
        parts.append(_table(["steepness", *map(str, STEEPNESSES)], [row]))
        figures[name] = chosen
    return "\n".join(parts), figures


def exact_by_count(found: Readings, condition: str) -> list[float]:
    """Share of exact counts in %, for every count."""
    right = np.array(found.hard) == found.truth
    return [round(100 * float(right[found.rows(condition, [n])].mean()), 1) for n in COUNTS]


def _error_by_count(found: Readings, condition: str) -> list[float]:
    wrong = np.abs(np.array(found.hard) - found.truth)
    return [round(float(wrong[found.rows(condition, [n])].mean()), 3) for n in COUNTS]


def shares_right(
    found: Readings, counts: Sequence[Sequence[int]], condition: str, truths: Sequence[int] = COUNTS
) -> NDArray[np.float64]:
    """Share of exact counts at each setting tried."""
    right = np.array(counts) == np.array(found.truth)[:, None]
    shares: NDArray[np.float64] = right[found.rows(condition, truths)].mean(0)
    return shares


def import_seconds() -> float:
    """What importing `critics` adds to importing torch."""
    program = (
        "import time, torch; start = time.perf_counter(); import critics, sys; print(time.perf_counter() - start); "
        "assert not {'ultralytics', 'transformers', 'torchvision'} & set(sys.modules)"
    )
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


def _section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return f"## {title}\n\n{_table(head, rows)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table(head, rows) + "\n"


def _keyed(head: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, dict[str, float]]:
    """The number each cell begins with, by critic and column."""
    return {row[0]: {key: float(cell.split()[0]) for key, cell in zip(head[1:], row[1:], strict=True)} for row in rows}
