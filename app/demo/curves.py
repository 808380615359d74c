"""Small line charts as SVG that follow the page's colours."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 260, 72
_LEFT, _RIGHT, _TOP, _BOTTOM = 4, 4, 6, 6


def curve(title: str, values: Sequence[float], goal: float | None = None, latest: str | None = None) -> str:
    """One line over the steps of a run, its last value in words beside the title.

    Args:
        title: what the line shows.
        values: one for each step, finite; may be empty.
        goal: drawn as a dashed line.
        latest: the last value as it shall be read; two digits after the point by default.
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
        # A line without length and with round ends stays a dot where the chart is stretched.
        end = points.rpartition(" ")[2]
        marks += f"<polyline points='{points}'/><polyline class='end' points='{end} {end}'/>"
    said = latest if latest is not None else (f"{shown[-1]:.2f}" if shown else "–")
    return (
        f"<figure class='curve'><figcaption>{escape(title)} <b>{escape(said)}</b></figcaption>"
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' preserveAspectRatio='none' role='img' "
        f"aria-label='{escape(title, quote=True)}: {escape(said)}'>{marks}</svg></figure>"
    )
