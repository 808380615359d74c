"""The figures of the documents follow the functions they show."""

from pathlib import Path

import countgen
from benchmarks.evaluation.plots import to_svg
from benchmarks.studies.figures import losses_of_a_missing_object, one_run, soft_indicators

FIGURES = Path(__file__).parents[3] / "docs" / "figures"


def test_indicators_rise_and_the_steepest_is_nearest_to_the_hard_one() -> None:
    _, *soft = soft_indicators().axes[0].get_lines()
    assert len(soft) == 3
    gaps = []
    for line in soft:
        x, y = line.get_data()
        assert (y[1:] >= y[:-1]).all()
        gaps.append(abs((x > 0) - y).mean())
    assert gaps == sorted(gaps, reverse=True)


def test_the_margin_loss_is_flat_only_beyond_its_margin() -> None:
    values, slopes = losses_of_a_missing_object().axes
    names = [line.get_label() for line in values.get_lines()][:3]
    lines = dict(zip(names, slopes.get_lines(), strict=False))
    x, slope = lines["margin"].get_data()
    assert (slope[x < 1.4] == 1).all()
    assert (slope[x > 1.6] == 0).all()
    assert lines["l1"].get_data()[1][0] < 1e-6


def test_the_run_that_is_shown_begins_wrong_and_ends_right(models: countgen.Models) -> None:
    figure = one_run(models)
    first, last, *_ = (line.get_label() for line in figure.axes[0].get_lines())
    assert not first.endswith("counts 7")
    assert last.endswith("counts 7")
    assert to_svg(figure).startswith("<svg")


def test_committed_figures_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in FIGURES.glob("*.svg")}
    assert sizes.keys() == {"soft-indicators.svg", "losses.svg", "one-run.svg", "sharpening.svg"}
    assert max(sizes.values()) < 40_000
