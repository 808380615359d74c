"""What several judges of an image agree on, as further judges of its record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from countgen.benchmarks.evaluation.metrics import HUMAN
from countgen.benchmarks.evaluation.records import Record

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
    return shared(votes, len(votes) // 2 + 1)


def shared(votes: Sequence[tuple[int, ...] | None], needed: int) -> tuple[int, ...] | None:
    """Return for each object the count of at least so many judges, more than half of them; None as in `majority`."""
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
    agreed = {MAJORITY: majority(votes)} if len(judges) > 2 else {}
    agreed[UNANIMOUS] = shared(votes, len(votes))
    counts = {name: answer for name, answer in agreed.items() if answer is not None}
    return replace(record, judges=(*record.judges, *agreed), judge_counts=record.judge_counts | counts)
