"""Every figure agrees with small tables counted by hand."""

import math

import pytest

from countgen.benchmarks.evaluation.comparison import compare
from countgen.benchmarks.evaluation.compute import compute_curve
from countgen.benchmarks.evaluation.metrics import by_arm, by_count, preservation, scores
from countgen.benchmarks.evaluation.statistics import wilson_interval
from tests.benchmarks.evaluation.made_records import record

pytestmark = pytest.mark.core


def test_scores_are_those_counted_by_hand() -> None:
    two = {"wanted": {"apple": 3, "dog": 2}, "critic_counts": (3, 3)}
    counted = [(3, 2), (3, 1), (5, 1), (0, 2)]  # errors 0 0, 0 -1, 2 -1, -3 0
    records = [record(seed=seed, judge_counts={"detector": counts}, **two) for seed, counts in enumerate(counted)]
    records.append(record(seed=4, counted=None, wanted=two["wanted"]))
    found = scores(records, "detector")
    assert (found.images, found.failed, found.right, found.close) == (5, 1, 1, 2)
    assert (found.accuracy, found.off_by_one) == (0.2, 0.4)
    assert (found.mae, found.bias) == (7 / 8, -3 / 8)
    assert found.rmse == pytest.approx(math.sqrt(15 / 8))
    assert found.partial == pytest.approx((1 + 0.75 + 0.5 + 0.5 + 0) / 5)
    assert found.interval == wilson_interval(1, 5)
    critic = scores(records, "critic")
    assert (critic.right, critic.close, critic.bias) == (0, 4, 0.5)
    assert math.isnan(scores([], "detector").accuracy)
    assert math.isnan(scores(records[4:], "detector").mae)


def test_methods_are_compared_on_the_cases_that_both_have() -> None:
    first = [record("auto", seed, counted) for seed, counted in enumerate([3, 3, 5, None, 3])]
    second = [record("plain", seed, counted) for seed, counted in enumerate([3, 4, 3, 3])]
    found = compare(first, second, "detector")
    assert (found.duel.cases, found.duel.won, found.duel.lost, found.unpaired) == (4, 1, 2, 1)
    assert (found.accuracy.mean, found.accuracy.low, found.accuracy.high) == (-0.25,) * 3  # of one prompt
    assert math.isnan(compare(first, [], "detector").accuracy.mean)


def test_an_image_is_the_same_one_where_objects_and_background_are_kept() -> None:
    measures = [(3, 0.8, 0.1), (2, 0.8, 0.1), (3, 0.7, 0.1), (3, 0.8, 0.11)]  # the judge's count, kept, changed
    names = ("objects_kept", "background_change", "structural_similarity")
    records = [
        record("edit", seed, counted, **dict(zip(names, (*measured, 0.9), strict=True)))
        for seed, (counted, *measured) in enumerate(measures)
    ]
    found = preservation([*records, record("edit", 5)])  # an older record has no such measures
    assert found is not None
    assert (found.images, found.same_and_right) == (4, 1)
    assert (found.objects_kept, found.background_change) == pytest.approx((0.775, 0.1025))
    assert preservation([record("edit", 5)]) is None


def test_groups_come_in_their_order() -> None:
    assert list(by_count([record(asked=n) for n in (20, 12, 1, 6)])) == [1, 6, 12, 20]
    assert list(by_arm([record("auto"), record("plain")])) == ["auto", "plain"]
    assert list(by_arm([record("auto"), record("auto", backbone="sdxl")])) == ["miniature auto", "sdxl auto"]


@pytest.mark.parametrize(("axis", "budgets"), [("evaluations", (0, 3, 4, 8, 9)), ("seconds", (0, 0.4, 0.5, 0.9, 1))])
def test_a_curve_falls_again_where_a_better_looking_candidate_is_wrong(axis: str, budgets: tuple[float, ...]) -> None:
    falling, failed = record(trace=((1, 0.1, False), (4, 0.5, True), (9, 1.0, False))), record(seed=1, counted=None)
    curve = compute_curve([falling, failed], axis)
    assert [curve.at(budget) for budget in budgets] == [0, 0, 0.5, 0.5, 0]
    assert math.isnan(compute_curve([], axis).at(1))
