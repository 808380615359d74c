"""Counts that judges gave to a finished run's images afterwards.

They are kept in the run folder beside its records, one JSON line for each judge and image, appended and never changed.
Of several for one judge and image, the latest is valid.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from countgen.benchmarks.evaluation.json_lines import Line, read_lines
from countgen.benchmarks.evaluation.metrics import grouped
from countgen.benchmarks.evaluation.records import Box, Record, with_judges
from countgen.files.schema import Whole

JUDGEMENTS = "judgements.jsonl"
_ADVICE = ", and countgen eval --rejudge judges its image again"


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
    judgements = read_lines(Path(run) / JUDGEMENTS, Judgement, _ADVICE)
    return list({(judgement.key, judgement.judge): judgement for judgement in judgements}.values())


def with_judgements(records: Iterable[Record], judgements: Iterable[Judgement]) -> list[Record]:
    """Return records with further judges; one without an answer is a judge of the image and has no counts there.

    Raises:
        ValueError: a judgement does not have one count per target.
    """
    given = grouped(judgements, lambda judgement: judgement.key)
    judged = []
    for record in records:
        new = {one.judge: one for one in given.get(record.key, ()) if one.judge not in record.judges}
        try:
            judged.append(
                with_judges(
                    record,
                    {judge: one.counts for judge, one in new.items()},
                    {judge: one.confidence for judge, one in new.items()},
                    {judge: one.boxes for judge, one in new.items()},
                )
            )
        except ValueError as error:
            raise ValueError(
                f"{JUDGEMENTS}: image {record.key}: {error}; take that line out of the file{_ADVICE}"
            ) from error
    return judged
