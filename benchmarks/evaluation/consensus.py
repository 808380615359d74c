"""What several judges of an image agree on, as further judges of its record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from countgen.benchmarks.evaluation.metrics import HUMAN
from countgen.benchmarks.evaluation.records import Record, with_judges

MAJORITY, UNANIMOUS = "majority", "unanimous"
CONSENSUS = (MAJORITY, UNANIMOUS)


def with_consensus(records: Iterable[Record]) -> list[Record]:
    """Return records with "unanimous" as a further judge where two judges or more counted, and "majority" from three.

    Both read the independent detectors only, not critics or people. "majority" gives for each object the count of more
    than half of all judges, those without an answer included; "unanimous" the count of every judge. Without
    such a count for some object, they give no answer.
    """
    return [_joined(record) for record in records]


def majority(votes: Sequence[tuple[int, ...] | None]) -> tuple[int, ...] | None:
    """Return for each object the count of more than half of the judges; None without one for some object.

    Args:
        votes: the counts of each judge, per object; None for no answer.
    """
    return _shared(votes, len(votes) // 2 + 1)


def unanimous(votes: Sequence[tuple[int, ...] | None]) -> tuple[int, ...] | None:
    """Return the counts of every judge; None where two differ or one gave no answer."""
    return _shared(votes, len(votes))


def _shared(votes: Sequence[tuple[int, ...] | None], needed: int) -> tuple[int, ...] | None:
    answers = [vote for vote in votes if vote is not None]
    if len(answers) < needed:
        return None
    most = [Counter(counts).most_common(1)[0] for counts in zip(*answers, strict=True)]
    return tuple(count for count, _ in most) if all(number >= needed for _, number in most) else None


def _joined(record: Record) -> Record:
    judges = [name for name in record.judges if name not in record.critics and not name.startswith(HUMAN)]
    if len(judges) < 2:
        return record
    votes = [record.judge_counts.get(name) for name in judges]
    shared = {MAJORITY: majority(votes)} if len(judges) > 2 else {}
    return with_judges(record, shared | {UNANIMOUS: unanimous(votes)})
