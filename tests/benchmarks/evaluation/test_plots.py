"""Plots draw what the metrics say, one line a method, the same bytes every time."""

import re
from xml.etree import ElementTree

import pytest

from countgen.benchmarks.evaluation.plots import accuracy_by_compute, accuracy_by_count, rendered, to_svg
from tests.benchmarks.evaluation.made_records import record


def run(methods: int) -> list:
    return [
        record(f"method {m}", seed, n if seed <= m else n + 1, n, trace=((1, 0.1, False), (5, 0.5, seed <= m)))
        for m in range(methods)
        for n in (1, 4, 9)
        for seed in range(4)
    ]


def test_a_point_stands_at_the_share_right_of_its_count() -> None:
    axes = accuracy_by_count(run(2), "detector").axes[0]
    first, second = [line for line in axes.lines if line.get_label().startswith("method")]
    assert (list(first.get_ydata()), list(second.get_ydata())) == ([25, 25, 25], [50, 50, 50])
    assert [round(x) for x in first.get_xdata()] == [1, 4, 9]
    assert [len(accuracy_by_count(run(methods), "detector").axes[0].collections) for methods in (2, 6)] == [2, 0]


@pytest.mark.parametrize(("axis", "step"), [("evaluations", 5), ("seconds", 0.5)])
def test_a_curve_steps_where_the_best_candidate_became_right(axis: str, step: float) -> None:
    line = accuracy_by_compute(run(1), axis).axes[0].lines[0]
    at = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
    assert at[step] == 25
    assert all(share == 0 for budget, share in at.items() if budget < step)
    unknown = record("given", 0, trace=((1, None, True),), seconds=None)
    lines = accuracy_by_compute([*run(1), unknown], axis).axes[0].lines
    assert len(lines) == (2 if axis == "evaluations" else 1)


def test_the_same_records_are_the_same_bytes() -> None:
    first, second = (accuracy_by_count(run(3), "detector", "Title & more") for _ in range(2))
    svg = to_svg(first)
    assert svg == to_svg(second)
    assert rendered(first, ".pdf") == rendered(second, ".pdf")
    assert rendered(first, ".png").startswith(b"\x89PNG")
    assert "Title & more" in "".join(ElementTree.fromstring(svg).itertext())
    assert not re.search(r"<(script|image)", svg)
