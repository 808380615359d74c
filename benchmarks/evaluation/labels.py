"""Human counts of a run's images, given blind: in shuffled order, without targets, methods or other counts.

They are kept in the run folder, one JSON line per label, appended and never changed. Several people may label the same
run at once. Of several labels of one person for an image, the latest is valid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from countgen.benchmarks.evaluation.json_lines import Line, LineFile, read_lines
from countgen.benchmarks.evaluation.records import RECORDS, read_run
from countgen.files.folder import writable_path
from countgen.files.lock import locked
from countgen.files.printable import printable
from countgen.files.schema import converted

LABELS = "labels.jsonl"
LOCK = "labels.lock"
MAX_COUNT = 10_000


@dataclass(frozen=True)
class Question:
    """An image and the objects to count in it, without target counts or the method.

    Attributes:
        key: of the record.
        image: its path.
        object_names: classes to count, in the order in which the counts are given.
        listed_as: see `countgen.benchmarks.evaluation.records.Record`.
    """

    key: str
    image: Path
    object_names: tuple[str, ...]
    listed_as: str | None = None


Counts = tuple[Annotated[int, Meta(ge=0, le=MAX_COUNT)] | None, ...]


class Label(Line, frozen=True):
    """The counts of one person in one image.

    Attributes:
        key: of the record.
        labeller: name of the person.
        counts: per object, 0 or above; None where the person could not count it.
    """

    key: str
    labeller: str
    counts: Counts

    def __post_init__(self) -> None:
        check_labeller(self.labeller)


def questions(run: str | Path, labeller: str = "", seed: int = 0) -> list[Question]:
    """Return every finished image of a run, shuffled for one person.

    The order of two images never changes, also while the run continues.

    Raises:
        RunFolderError: no run, or a damaged one.
    """
    return sorted(_images(run).values(), key=lambda question: _order(f"{seed}/{labeller}/{question.key}"))


def unlabelled(run: str | Path, labeller: str, seed: int = 0) -> list[Question]:
    """Return all images that this person has not labelled, in the same order.

    Raises:
        ValueError: no name, no run, or a damaged one.
    """
    name = check_labeller(labeller)
    done = {label.key for label in read_labels(run) if label.labeller == name}
    return [question for question in questions(run, name, seed) if question.key not in done]


def save_label(run: str | Path, key: str, labeller: str, counts: Sequence[int | None]) -> Label:
    """Append one label; it is on the disk when the function returns.

    Raises:
        ValueError: no name, no such image, or not one whole number from 0 to 10 000, or None, for each
            of its objects.
        RecordWriteError: the disk is full or the folder cannot be written; earlier labels are unchanged.
    """
    name = check_labeller(labeller)
    question = _images(run).get(key)
    if question is None:
        raise ValueError(f"{printable(run)} has no finished image {printable(key)!r}")
    try:
        label = Label(key, name, converted(tuple(counts), Counts))
    except ValueError:
        label = Label(key, name, ())
    if len(label.counts) != len(question.object_names):
        raise ValueError(
            f"expected {len(question.object_names)} whole numbers from 0 to {MAX_COUNT} or None, one for each of "
            f"{', '.join(question.object_names)}, got {printable(list(counts), 200)}"
        )
    folder = Path(run)
    with locked(writable_path(folder, LOCK), wait=True), LineFile(folder, LABELS) as file:
        file.append(label.to_line())
    return label


def check_labeller(labeller: str) -> str:
    """Return the name of a person, without blanks around it.

    Raises:
        ValueError: empty, longer than 60 characters, or with characters that do not print.
    """
    name = labeller.strip()
    if not name or len(name) > 60 or not name.isprintable():
        raise ValueError(f"the labeller's name must have 1 to 60 printable characters, got {labeller!r}")
    return name


def read_labels(run: str | Path) -> list[Label]:
    """Return the latest label of each person for each image of a run.

    Raises:
        ValueError: a damaged line before the last; a last line that is still being written is left out.
    """
    labels = read_lines(Path(run) / LABELS, Label)
    return list({(label.key, label.labeller): label for label in labels}.values())


def _images(run: str | Path) -> dict[str, Question]:
    records = Path(run) / RECORDS
    state = records.stat() if records.exists() else None
    return _images_at(Path(run), (state.st_mtime_ns, state.st_size) if state else None)


@lru_cache(maxsize=8)
def _images_at(folder: Path, _state: tuple[int, int] | None) -> dict[str, Question]:
    """Return finished images by key; cached for each state of the records, as a large run takes seconds to read."""
    _, records = read_run(folder)
    return {
        record.key: Question(record.key, folder / record.image, tuple(record.wanted), record.listed_as)
        for record in records
        if record.status == "done" and record.image
    }


def _order(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
