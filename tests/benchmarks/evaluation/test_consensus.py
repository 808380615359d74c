"""What several judges agree on."""

import pytest

from countgen.benchmarks.evaluation.consensus import majority, shared, with_consensus
from countgen.benchmarks.evaluation.metrics import counts
from tests.benchmarks.evaluation.made_records import record

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    ("votes", "most", "every"),
    [
        ([(3,), (3,), (3,)], (3,), (3,)),
        ([(3,), (3,), (4,)], (3,), None),
        ([(3,), (4,), (5,)], None, None),
        ([(3,), (3,), None], (3,), None),
        ([(3,), None, None], None, None),
        ([(3,), (3,), (4,), (4,)], None, None),
        # Each object by itself: no judge has both.
        ([(3, 1), (3, 2), (4, 2)], (3, 2), None),
        ([(3, 1), (3, 2), (3, 4)], None, None),
    ],
)
def test_consensus_needs_more_than_half_of_all_judges_or_every_one(votes, most, every) -> None:
    assert majority(votes) == most
    assert shared(votes, len(votes)) == every


def test_critics_do_not_vote_and_two_judges_have_no_majority() -> None:
    one = record(judges=("a", "b", "c", "critic"), judge_counts={"a": (3,), "b": (3,), "c": (2,), "critic": (2,)})
    (joined,) = with_consensus([one])
    assert joined.judges == ("a", "b", "c", "critic", "majority", "unanimous")
    assert (counts(joined, "majority"), counts(joined, "unanimous")) == ((3,), None)
    (pair,) = with_consensus([record()])
    assert pair.judges[2:] == ("unanimous",)
    (single,) = with_consensus([record(judges=("detector",))])
    assert single.judges == ("detector",)
