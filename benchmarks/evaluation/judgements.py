"""Counts that judges gave to a finished run's images afterwards.

They are kept in the run folder beside its records, one JSON line for each judge and image, appended and never changed.
Of several for one judge and image, the latest is valid.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from countgen.benchmarks.evaluation.labels import LABELS, Label
from countgen.benchmarks.evaluation.metrics import HUMAN, grouped
from countgen.benchmarks.evaluation.records import Box, Record
from countgen.files.json_lines import Line, read_lines
from countgen.files.schema import Whole

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


def read_judgements(run: str | Path) -> list[Judgement]:
    """Return the latest result of each judge for each image of a run; empty if no judge came afterwards.

    Raises:
        ValueError: a damaged line before the last; a last line that is still being written is left out.
    """
    judgements = read_lines(Path(run) / JUDGEMENTS, Judgement, ", and countgen eval --rejudge judges its image again")
    return list({(judgement.key, judgement.judge): judgement for judgement in judgements}.values())


def of_people(labels: Iterable[Label]) -> list[Judgement]:
    """Return people's labels as those of judges called "human NAME"; no answer where they could not count an object."""
    judgements = []
    for label in labels:
        counts = tuple(count for count in label.counts if count is not None)
        answer = counts if len(counts) == len(label.counts) else None
        judgements.append(Judgement(label.key, f"{HUMAN}{label.labeller}", answer, 0.0, ()))
    return judgements


def with_judgements(records: Iterable[Record], judgements: Iterable[Judgement]) -> list[Record]:
    """Return records with further judges; one without an answer is a judge of the image and has no counts there.

    Raises:
        ValueError: a judgement does not have one count per target.
    """
    given = grouped(judgements, lambda judgement: judgement.key)
    judged = []
    for record in records:
        added = {new.judge: new for new in given.get(record.key, ()) if new.judge not in record.judges}
        answers = {judge: new.counts for judge, new in added.items() if new.counts is not None}
        try:
            judged.append(
                replace(
                    record,
                    judges=(*record.judges, *added),
                    judge_counts=record.judge_counts | answers,
                    confidence=record.confidence | {judge: new.confidence for judge, new in added.items()},
                    boxes=record.boxes | {judge: new.boxes for judge, new in added.items()},
                )
            )
        except ValueError as error:
            raise ValueError(f"image {record.key}: {error}; take that line out of {JUDGEMENTS} or {LABELS}") from error
    return judged
