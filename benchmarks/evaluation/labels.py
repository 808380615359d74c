"""Human counts of a run's images, given blind: in shuffled order, without targets, methods or other counts.

They are kept in the run folder, one JSON line per label, appended and never changed. Several people may label the same
run at once. Of several labels of one person for an image, the latest is valid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from filelock import FileLock
from msgspec import Meta

from countgen.benchmarks.evaluation.records import read_run
from countgen.files.folder import writable_path
from countgen.files.json_lines import Line, LineFile, read_lines

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
    finished = (record for record in read_run(run)[1] if record.status == "done" and record.image)
    images = (Question(r.key, Path(run) / str(r.image), tuple(r.wanted), r.listed_as) for r in finished)
    return sorted(images, key=lambda image: hashlib.sha256(f"{seed}/{labeller}/{image.key}".encode()).digest())


def save_labels(run: str | Path, labels: Iterable[Label]) -> None:
    """Append labels; they are on the disk when the function returns.

    Raises:
        RecordWriteError: the disk is full or the folder cannot be written; earlier labels are unchanged.
    """
    with FileLock(writable_path(Path(run), LOCK), mode=0o644), LineFile(Path(run), LABELS) as file:
        for label in labels:
            file.append(label.to_line())


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
