"""Counts that judges gave to a finished run's images afterwards.

They are kept in the run folder beside its records, one JSON line for each judge and image, appended and never changed.
Of several for one judge and image, the latest is valid.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from countgen.benchmarks.evaluation.json_lines import Line, read_lines
from countgen.benchmarks.evaluation.metrics import grouped
from countgen.benchmarks.evaluation.records import Box, Record
from countgen.files.schema import Whole, encoded

JUDGEMENTS = "judgements.jsonl"


class Judgement(Line, frozen=True):
    """The result of one judge for one image.

    Attributes:
        key: of the image's record.
        judge: its name.
        counts: per target; None where the judge gave no answer.
        confidence: mean class probability of its detections, 0 without any.
        boxes: of its detections, absolute-pixel xyxy; empty for judges that count without detecting.
    """

    key: str
    judge: str
    counts: tuple[Whole, ...] | None
    confidence: float
    boxes: tuple[Box, ...]

    def to_line(self) -> bytes:
        """Return one line of JSON, with its newline."""
        return encoded(self) + b"\n"


def read_judgements(run: str | Path) -> list[Judgement]:
    """Return the latest result of each judge for each image of a run; empty if no judge came afterwards.

    Raises:
        ValueError: a damaged line before the last; a last line that is still being written is left out.
    """
    advice = ", and countgen eval --rejudge judges its image again"
    judgements = read_lines(Path(run) / JUDGEMENTS, Judgement, advice)
    return list({(judgement.key, judgement.judge): judgement for judgement in judgements}.values())


def with_judgements(records: Iterable[Record], judgements: Iterable[Judgement]) -> list[Record]:
    """Return records with further judges; one without an answer is a judge of the image and has no counts there.

    Raises:
        ValueError: a judgement does not have one count per target.
    """
    given = grouped(judgements, lambda one: one.key)
    added = []
    for record in records:
        mine = {one.judge: one for one in given.get(record.key, ()) if one.judge not in record.judges}
        for judge, one in mine.items():
            if one.counts is not None and len(one.counts) != len(record.targets):
                raise ValueError(
                    f"{JUDGEMENTS}: {judge} has {len(one.counts)} counts for {record.key}, expected "
                    f"{len(record.targets)}, one for each of {', '.join(t.object_name for t in record.targets)}; take "
                    "that line out of the file, and countgen eval --rejudge judges its image again"
                )
        added.append(_joined(record, mine) if mine else record)
    return added


def _joined(record: Record, mine: dict[str, Judgement]) -> Record:
    return replace(
        record,
        judges=(*record.judges, *mine),
        judge_counts=record.judge_counts | {name: one.counts for name, one in mine.items() if one.counts is not None},
        confidence=record.confidence | {name: one.confidence for name, one in mine.items()},
        boxes=record.boxes | {name: one.boxes for name, one in mine.items()},
    )
