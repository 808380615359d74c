"""Small line charts as SVG in the page's colours."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 260, 72
_LEFT, _RIGHT, _TOP, _BOTTOM = 4, 4, 6, 6


def curve(title: str, values: Sequence[float], goal: float | None = None, latest: str | None = None) -> str:
    """Return a chart of one value over the steps of a run, with its latest value beside the title.

    Args:
        title: name of the value.
        values: one finite value per step; may be empty.
        goal: shown as a dashed line.
        latest: text for the latest value; two decimal places by default.
    """
    shown = list(values[-400:])
    top = max([*shown, goal if goal is not None else 0.0, 1e-6])
    bottom = min([*shown, 0.0])

    def y(value: float) -> float:
        return _TOP + (HEIGHT - _TOP - _BOTTOM) * (top - value) / (top - bottom)

    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(shown) - 1)
    points = " ".join(f"{_LEFT + k * step:.1f},{y(value):.1f}" for k, value in enumerate(shown))
    marks = ""
    if goal is not None:
        marks += f"<line class='goal' x1='{_LEFT}' x2='{WIDTH - _RIGHT}' y1='{y(goal):.1f}' y2='{y(goal):.1f}'/>"
    if shown:
        # A zero-length line with round caps stays a dot when the chart is stretched.
        end = points.rpartition(" ")[2]
        marks += f"<polyline points='{points}'/><polyline class='end' points='{end} {end}'/>"
    said = latest if latest is not None else (f"{shown[-1]:.2f}" if shown else "–")
    return (
        f"<figure class='curve'><figcaption>{escape(title)} <b>{escape(said)}</b></figcaption>"
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' preserveAspectRatio='none' role='img' "
        f"aria-label='{escape(title, quote=True)}: {escape(said)}'>{marks}</svg></figure>"
    )
