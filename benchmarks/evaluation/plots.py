"""Accuracy by count and against compute, reliability of P(right), as matplotlib figures for `rendered` and `to_svg`.

Colours are distinguishable for colour-blind readers, and every method has a marker of its own. pyplot is not used, so
that there is no global state and the demo may plot from several threads.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from countgen.benchmarks.evaluation.compute import compute_curve
from countgen.benchmarks.evaluation.metrics import by_arm, by_count, scores
from countgen.benchmarks.evaluation.records import Record
from countgen.benchmarks.evaluation.reliability import by_probability

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#B8860B", "#6A51A3", "#7F7F7F")
"""Colours of Okabe and Ito, with a darker yellow, violet and grey."""

MARKERS = "osD^vPX*"
_LINES = ("-", "--", ":")
_INK, _FAINT, _PAPER = "#24292f", "#8c959f", "#ffffff"
STYLE: dict[str, Any] = {
    "axes.edgecolor": _FAINT,
    "axes.facecolor": _PAPER,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "figure.facecolor": _PAPER,
    "font.size": 10,
    "grid.color": "#eaeef2",
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text that can be selected and edited
    "svg.fonttype": "none",
    "svg.hashsalt": "countgen",  # the same figure is the same bytes
    "text.parse_math": False,  # a "$" in a name is a "$"
    "text.color": _INK,
    "xtick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.color": _FAINT,
    "ytick.labelcolor": _INK,
}
_SIZE = (7.2, 4.2)
"""Size of a figure in inches."""
_MOST_INTERVALS = 4
"""Number of methods up to which a plot shows their intervals; those of more would hide each other."""


def accuracy_by_count(records: Sequence[Record], judge: str, title: str = "") -> Figure:
    """Plot the fraction of images right over the target count; up to four methods with 95 % Wilson intervals.

    Args:
        records: of one run or several methods; a line per method.
        judge: who counts; see `countgen.benchmarks.evaluation.metrics`.
        title: above the plot.
    """
    arms = by_arm(records)
    with _plot(title, "objects asked for") as (figure, axes):
        axes.xaxis.set_major_locator(MaxNLocator(16, integer=True))
        for index, (name, group) in enumerate(arms.items()):
            points = {count: scores(counted, judge) for count, counted in by_count(group).items()}
            at = [count + 0.09 * (index - (len(arms) - 1) / 2) for count in points]
            share = [100 * point.accuracy for point in points.values()]
            style = _style(index)
            if len(arms) <= _MOST_INTERVALS:
                ends = [[100 * abs(p.interval[end] - p.accuracy) for p in points.values()] for end in (0, 1)]
                axes.errorbar(at, share, ends, fmt="none", ecolor=style["color"], alpha=0.35, lw=1.4)
            axes.plot(at, share, marker=MARKERS[index % len(MARKERS)], ms=5, lw=1.8, label=name, **style)
    return figure


def accuracy_by_compute(records: Sequence[Record], axis: str, title: str = "") -> Figure:
    """Plot the fraction of images whose best candidate is right, by the first judge, when stopped at each budget.

    Args:
        records: of one run or several methods; a line per method.
        axis: "evaluations" or "seconds", on a logarithmic scale.
        title: above the plot.
    """
    every = {name: compute_curve(group, axis) for name, group in by_arm(records).items()}
    curves = {name: curve for name, curve in every.items() if curve.images}  # others have unknown seconds
    several = len({curve.images for curve in curves.values()}) > 1  # a token method lacks the counts without a token
    spent = [r.evaluations if axis == "evaluations" else r.seconds or 0.0 for r in records]
    positive = [float(budget) for curve in curves.values() for budget in curve.budgets if budget > 0]
    first, last = min(positive, default=1.0), max([*positive, *spent], default=1.0)
    with _plot(title, f"{axis} an image") as (figure, axes):
        for index, (name, curve) in enumerate(curves.items()):
            # From the first budget that any method can use to the last, so that the lines compare at every point.
            budgets = [first / 1.15, *(float(b) for b in curve.budgets if b > 0), last]
            shares = [100 * curve.at(budget) for budget in budgets]
            of = f" of {curve.images}" if several else ""
            axes.step(budgets, shares, where="post", lw=2, label=f"{name}  {shares[-1]:.0f} %{of}", **_style(index))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    return figure


def reliability_diagram(records: Sequence[Record], judge: str, title: str = "") -> Figure:
    """Plot the fraction of images right over the mean P(right) of each bin, with 95 % Wilson intervals.

    Args:
        records: of one run or several methods; a line per method with probabilities, with bins of at least ten images.
        judge: who counts; see `countgen.benchmarks.evaluation.metrics`.
        title: above the plot.
    """
    with _plot(title, "P(right) predicted, %") as (figure, axes):
        axes.plot((0, 100), (0, 100), color=_FAINT, lw=1, ls=":", label="true")
        for index, (name, group) in enumerate(by_arm(records).items()):
            bins = [found for found in by_probability(group, judge).values() if found.images >= 10]
            at, share = [100 * found.predicted for found in bins], [100 * found.share for found in bins]
            ends = [[100 * abs(found.interval[end] - found.share) for found in bins] for end in (0, 1)]
            style = _style(index)
            axes.errorbar(at, share, ends, fmt="none", ecolor=style["color"], alpha=0.35, lw=1.4)
            axes.plot(at, share, marker=MARKERS[index % len(MARKERS)], ms=5, lw=1.8, label=name, **style)
    return figure


def rendered(figure: Figure, suffix: str) -> bytes:
    """Return a figure as the content of a ".svg", ".pdf" or ".png" file."""
    file = io.BytesIO()
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix)
    with rc_context(STYLE):
        figure.savefig(file, format=suffix[1:], dpi=160, metadata=undated)
    return file.getvalue()


def to_svg(figure: Figure) -> str:
    """Return the figure as an SVG element for a page."""
    text = rendered(figure, ".svg").decode()
    return text[text.index("<svg") :]


def _style(index: int) -> dict[str, Any]:
    return {"color": COLOURS[index % len(COLOURS)], "ls": _LINES[index // len(COLOURS) % len(_LINES)]}


@contextmanager
def _plot(title: str, x_label: str) -> Iterator[tuple[Figure, Axes]]:
    """Yield a new figure and its axes, and add a legend below them in at most four columns."""
    with rc_context(STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.subplots()
        axes.set(title=title, xlabel=x_label, ylabel="images right, %", ylim=(-3, 103), yticks=range(0, 101, 25))
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        yield figure, axes
        handles, labels = axes.get_legend_handles_labels()
        for columns in range(min(4, len(labels)), 0, -1):
            legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9.5)
            if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
                return
            legend.remove()
