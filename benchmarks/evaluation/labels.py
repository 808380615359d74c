"""Human counts of a run's images, given blind: in shuffled order, without targets, methods or other counts.

They are kept in the run folder, one JSON line per label, appended and never changed. Several people may label the same
run at once. Of several labels of one person for an image, the latest is valid.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from countgen.benchmarks.evaluation.json_lines import SCHEMA, read_lines, split_torn
from countgen.benchmarks.evaluation.records import RECORDS, RecordWriteError, read_run

LABELS = "labels.jsonl"
MAX_COUNT = 10_000
_TAIL = 4096
"""Bytes at the end of the file that are read; longer than any label."""


@dataclass(frozen=True)
class Question:
    """An image and the objects to count in it, without target counts or the method.

    Attributes:
        key: of the record.
        image: its path.
        object_names: classes to count, in the order in which the counts are given.
    """

    key: str
    image: Path
    object_names: tuple[str, ...]


@dataclass(frozen=True)
class Label:
    """The counts of one person in one image.

    Attributes:
        key: of the record.
        labeller: name of the person.
        counts: per object, 0 or above; None where the person could not count it.
    """

    key: str
    labeller: str
    counts: tuple[int | None, ...]


def questions(run: str | Path, labeller: str = "", seed: int = 0) -> list[Question]:
    """Return every finished image of a run, shuffled for one person.

    The order of two images never changes, also while the run continues.

    Raises:
        RunFolderError: no run, or a damaged one.
    """
    return sorted(_images(run).values(), key=lambda one: _order(f"{seed}/{labeller}/{one.key}"))


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
    label = check_label(run, key, labeller, counts)
    _append(Path(run) / LABELS, json.dumps({"schema": SCHEMA, **label.__dict__}, ensure_ascii=False).encode() + b"\n")
    return label


def check_label(run: str | Path, key: str, labeller: str, counts: Sequence[int | None]) -> Label:
    """Return a label after a check that it fits an image of the run; nothing is written.

    Raises:
        ValueError: as `save_label`.
    """
    name = check_labeller(labeller)
    question = _images(run).get(key)
    if question is None:
        raise ValueError(f"{run} has no finished image {key!r}")
    expected = len(question.object_names)
    if len(counts) != expected or not all(map(_is_answer, counts)):
        raise ValueError(
            f"expected {expected} whole numbers from 0 to {MAX_COUNT} or None, one for each of "
            f"{', '.join(question.object_names)}, got {list(counts)}"
        )
    return Label(key, name, tuple(counts))


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
    found = read_lines(Path(run) / LABELS, "label", _label)
    return list({(one.key, one.labeller): one for one in found}.values())


def _label(document: dict[str, Any]) -> Label:
    key, labeller, counts = document["key"], document["labeller"], document["counts"]
    if not (isinstance(key, str) and isinstance(labeller, str) and isinstance(counts, list)):
        raise TypeError("key and labeller must be texts, counts a list")
    if not all(map(_is_answer, counts)):
        raise ValueError(f"counts must be whole numbers from 0 to {MAX_COUNT}, or null")
    return Label(key, check_labeller(labeller), tuple(counts))


def _is_answer(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value <= MAX_COUNT)


def _images(run: str | Path) -> dict[str, Question]:
    records = Path(run) / RECORDS
    state = records.stat() if records.exists() else None
    return _images_at(Path(run), (state.st_mtime_ns, state.st_size) if state else None)


@lru_cache(maxsize=8)
def _images_at(folder: Path, _state: tuple[int, int] | None) -> dict[str, Question]:
    """Return finished images by key; cached for each state of the records, as a large run takes seconds to read."""
    _, records = read_run(folder)
    return {
        record.key: Question(record.key, folder / record.image, tuple(target.object_name for target in record.targets))
        for record in records
        if record.status == "done" and record.image
    }


def _order(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _append(path: Path, line: bytes) -> None:
    """Append one line atomically, also while other processes append."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise RecordWriteError(error.errno, f"cannot write {path}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX)  # closing lets go of it
        end = os.fstat(file).st_size
        tail = os.pread(file, _TAIL, max(0, end - _TAIL))
        whole, torn = split_torn(tail)
        start = end - len(torn)
        # A label that lacks only its newline gets it; an incomplete one is overwritten.
        addition = whole[len(tail) - len(torn) :] + line
        try:
            written = 0
            while written < len(addition):
                written += os.pwrite(file, addition[written:], start + written)
            os.ftruncate(file, start + len(addition))
            os.fsync(file)
        except OSError as error:
            os.ftruncate(file, start)
            raise RecordWriteError(
                error.errno, f"cannot write to {path}: {error.strerror}; make room and save this label again"
            ) from error
    finally:
        os.close(file)
