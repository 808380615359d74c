"""What was predicted of images is compared with what came true, by probability and for groups of confirmed images."""

import pytest

from countgen.benchmarks.evaluation.records import Record
from countgen.benchmarks.evaluation.reliability import by_probability, of_confirmed
from tests.benchmarks.evaluation.made_records import record

pytestmark = pytest.mark.core


def confirmed(seed: int, number: int, counted: int, evaluations: int, probability: float, **wanted: int) -> Record:
    """A confirmed record of apples, and of other objects that the judge counts right."""
    return record(
        "search",
        seed,
        wanted={"apple": number} | wanted,
        critic_counts=(number, *wanted.values()),
        judge_counts={"detector": (counted, *wanted.values())},
        probability=probability,
        evaluations=evaluations,
    )


def test_bins_and_groups_hold_the_mean_of_what_was_predicted_and_what_came_true() -> None:
    records = [
        confirmed(0, 3, 3, 1, 0.98),
        confirmed(1, 3, 2, 4, 0.96),
        confirmed(2, 14, 14, 20, 0.95),
        confirmed(3, 2, 2, 2, 0.97, cat=1),
        record("search", 4, probability=0.3, confirmed=False),
        record("search", 5, probability=None),
    ]
    bins = by_probability(records, "detector")
    assert {low: found.images for low, found in bins.items()} == {0.0: 1, 0.95: 3, 0.98: 1}
    assert (bins[0.95].predicted, bins[0.95].share) == pytest.approx((0.96, 2 / 3))
    assert bins[0.95].interval[0] < 2 / 3 < bins[0.95].interval[1]
    groups = of_confirmed(records, "detector")
    assert {name: (found.images, found.right) for name, found in groups.items()} == {
        "1-5 objects": (2, 1),
        "13 objects and more": (1, 1),
        "several classes": (1, 1),
        "after 1 evaluation": (1, 1),
        "after 2-4": (2, 1),
        "after 13 and more": (1, 1),
    }
