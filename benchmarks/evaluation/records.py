"""The records of an evaluation: one JSON line per image, appended, never changed."""

from __future__ import annotations

import gc
import json
import lzma
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from countgen.benchmarks.evaluation.json_lines import load_line, parsed, split_torn
from countgen.benchmarks.evaluation.record_types import check_record, check_settings
from countgen.errors import CountGenError
from countgen.files.reading import open_regular, read_bytes
from countgen.prompts import Target

RECORDS = "records.jsonl"
PACKED = "records.jsonl.xz"
"""Name of the compressed records of a finished run; nothing is appended to them."""
MAX_UNPACKED_BYTES = 512 * 2**20
"""Largest size of packed records once they are unpacked."""
MAX_SETTINGS_BYTES = 4 * 2**20
MANY_BYTES = 2**20
"""Size of records from which reading them pauses the garbage collector."""
SETTINGS = "settings.json"
IMAGES = "images"
"""Folder of a run's images."""
_TIMED = ("seconds", "peak_bytes")

Box = tuple[int, int, int, int]


class RunFolderError(CountGenError, ValueError):
    """A run folder that cannot be used: no run, in use, of other settings, or damaged."""


class RecordWriteError(CountGenError, OSError):
    """A record could not be written; all earlier ones are unchanged."""


@dataclass(frozen=True)
class Record:
    """One image of an evaluation, or one that failed.

    Attributes:
        schema: of this line, `SCHEMA`.
        key: names the case by its content: the same case has the same key in every run.
        suite, level: name of the prompt's suite, and "easy" (1-5), "medium" (6-10), "hard" (11-15) or "beyond".
        prompt, targets, seed: of the case.
        backbone, method, critics: models and method; the method is an arm, see `countgen.benchmarks.evaluation.arms`.
        judges: detectors that counted and did not steer; the first one decides.
        status: "done" or "failed".
        error: message of the failure; None when done.
        critic_counts: of the first critic, per target; empty when failed, like all fields below.
        judge_counts: by judge, per target.
        confidence: by judge, the mean class probability of its detections, 0 where there are none.
        boxes: by judge, of its detections, absolute-pixel xyxy; empty for judges that count without detecting.
        confirmed: the critics agree on every view.
        trace: (evaluations, seconds, right by the first judge) at each change of the best candidate; judged afterwards.
        evaluations, seconds: spent on the image, without loading and judging.
        peak_bytes: of memory while it was generated: the device's on CUDA, otherwise the process's; None if unknown.
        image, before: paths of the image and of the plain one, relative to the run folder; None when failed.
        truncated: whether a text encoder truncated the prompt, as the pipeline warns; None for images from another
            source.
        objects_kept, background_change, structural_similarity: of the image compared with the plain one of its seed,
            by the first judge, see `countgen.image_preservation`; None where that judge has no boxes, and for images
            from another source.
    """

    schema: int
    key: str
    suite: str
    level: str
    prompt: str
    targets: tuple[Target, ...]
    seed: int
    backbone: str
    method: str
    critics: tuple[str, ...]
    judges: tuple[str, ...]
    status: str
    error: str | None
    critic_counts: tuple[int, ...]
    judge_counts: dict[str, tuple[int, ...]]
    confidence: dict[str, float]
    boxes: dict[str, tuple[Box, ...]]
    confirmed: bool
    trace: tuple[tuple[int, float, bool], ...]
    evaluations: int
    seconds: float
    peak_bytes: int | None
    image: str | None
    before: str | None
    truncated: bool | None = None
    objects_kept: float | None = None
    background_change: float | None = None
    structural_similarity: float | None = None


_FIELDS = frozenset(field.name for field in fields(Record))


def read_run(folder: str | Path) -> tuple[dict[str, Any], list[Record]]:
    """Return settings and records of a run, finished or not; one record per case, the latest.

    Raises:
        RunFolderError: no run, or a damaged line; a last line that is still being written is left out.
    """
    path = Path(folder) / SETTINGS
    try:
        settings = load_line(read_bytes(path, MAX_SETTINGS_BYTES))
        if not isinstance(settings, dict):
            raise ValueError("it holds no JSON object")
        check_settings(settings)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunFolderError(
            f"{folder} is no run: it has no {SETTINGS}; give a folder that an evaluation wrote"
        ) from error
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} is damaged: {error}") from error
    packed = Path(folder) / PACKED
    return settings, read_records(packed if packed.exists() else Path(folder) / RECORDS)


def differing_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the names of the settings that two runs do not share.

    Suites are compared by digest, since one suite may have several paths.
    """
    names = [name for name in dict.fromkeys((*one, *other)) if one.get(name) != other.get(name)]
    suites = {Path(str(settings.get("suite"))).name for settings in (one, other)}
    return [name for name in names if name != "suite" or len(suites) > 1]


def read_records(path: Path) -> list[Record]:
    """Return the records of a file in their order, of several for one case the latest; empty where there is no file.

    Raises:
        RunFolderError: a damaged line before the last.
    """
    try:
        content = _content(path) if path.exists() else b""
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise RunFolderError(f"{path} cannot be read: {error}") from error
    # The collector would traverse many growing records repeatedly, which doubles the time.
    collecting = gc.isenabled() and len(content) > MANY_BYTES
    if collecting:
        gc.disable()
    try:
        found = parsed(content, path, "record", from_document, ", and the run does its case again")
        latest = {record.key: record for record in found}
    except ValueError as error:
        raise RunFolderError(str(error)) from error
    finally:
        if collecting:
            if not gc.get_freeze_count():  # frozen objects of others stay frozen
                gc.freeze()
                gc.unfreeze()  # now they are in the oldest generation, and the next collection skips them
            gc.enable()
    return list(latest.values())


def _content(path: Path) -> bytes:
    if path.suffix != ".xz":
        return read_bytes(path, MAX_UNPACKED_BYTES)
    with open_regular(path) as packed, lzma.open(packed) as file:
        content: bytes = file.read(MAX_UNPACKED_BYTES + 1)
    if len(content) > MAX_UNPACKED_BYTES:
        raise ValueError(f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    return content


def pack(lines: Iterable[bytes], folder: Path) -> None:
    """Write the lines of a finished run's records into its folder, compressed."""
    (folder / PACKED).write_bytes(lzma.compress(b"".join(lines), preset=9 | lzma.PRESET_EXTREME))


def to_line(record: Record) -> bytes:
    """Return a record as one line of JSON, with its newline."""
    return _line(_to_document(record))


def _line(document: dict[str, Any]) -> bytes:
    text = json.dumps(document, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    # Half a surrogate pair, as in an error about an odd file name, has no UTF-8; its escape is what JSON reads.
    return text.encode(errors="backslashreplace") + b"\n"


def _to_document(record: Record) -> dict[str, Any]:
    return asdict(record) | {"targets": {t.object_name: t.target_count for t in record.targets}}


def from_document(document: dict[str, Any]) -> Record:
    """Return a record from its JSON document, whose containers the record takes over.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: the document is no record.
    """
    if document.keys() != _FIELDS:
        raise ValueError(f"missing or unknown: {', '.join(sorted(document.keys() ^ _FIELDS))}")
    check_record(document)
    document["targets"] = _targets(tuple(document["targets"].items()))
    for name in ("critics", "judges", "critic_counts"):
        document[name] = tuple(document[name])
    document["judge_counts"] = {judge: tuple(counts) for judge, counts in document["judge_counts"].items()}
    document["boxes"] = {judge: tuple(map(tuple, boxes)) for judge, boxes in document["boxes"].items()}
    document["trace"] = tuple(map(tuple, document["trace"]))
    # The __init__ of a frozen class sets each field separately, which takes as long as everything above.
    record = object.__new__(Record)
    object.__setattr__(record, "__dict__", document)
    return record


@lru_cache(maxsize=1024)
def _targets(counts: tuple[tuple[str, int], ...]) -> tuple[Target, ...]:
    return tuple(Target(*count) for count in counts)


def table(records: Iterable[Record]) -> bytes:
    """Return the results of a run without its times: byte-equal for equal runs.

    Returns:
        JSON lines, ordered by key.
    """
    lines = []
    for record in sorted(records, key=lambda one: one.key):
        document = {name: value for name, value in _to_document(record).items() if name not in _TIMED}
        lines.append(_line(document | {"trace": [(evaluations, right) for evaluations, _, right in record.trace]}))
    return b"".join(lines)


class RecordFile:
    """A file to which records are appended; each is on the disk when `append` returns.

    An incomplete last record is removed first. Use it as a context manager.

    Raises:
        RecordWriteError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            content = path.read_bytes() if path.exists() else b""
            whole, _ = split_torn(content)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._size = len(whole)
            if whole != content:
                # A record that lacks only its newline gets it; an incomplete one is removed.
                os.ftruncate(self._file, min(len(whole), len(content)))
                os.pwrite(self._file, whole[len(content) :], len(content))
                os.fsync(self._file)
        except OSError as error:
            raise RecordWriteError(error.errno, f"cannot write {path}: {error.strerror}") from error

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def append(self, record: Record) -> None:
        """Append a record atomically.

        Raises:
            RecordWriteError: the disk is full or failed.
        """
        self.append_line(to_line(record))

    def append_line(self, line: bytes) -> None:
        """Append a line that ends in a newline, as `append` does."""
        try:
            written = 0
            while written < len(line):
                written += os.pwrite(self._file, line[written:], self._size + written)
            os.fsync(self._file)
        except OSError as error:
            with suppress(OSError):  # an incomplete record is removed when the file is opened again
                os.ftruncate(self._file, self._size)
            raise RecordWriteError(
                error.errno,
                f"cannot write to {self.path}: {error.strerror}; make room and give the same command again, "
                "what is finished is kept",
            ) from error
        self._size += len(line)
