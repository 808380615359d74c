"""The folder of a run: its settings, its records, its images, and the lock that keeps a second run out."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from countgen.benchmarks.evaluation.image_files import lost_images
from countgen.benchmarks.evaluation.plan import RunSettings, recorded
from countgen.benchmarks.evaluation.records import (
    IMAGES,
    MAX_SETTINGS_BYTES,
    PACKED,
    RECORDS,
    SETTINGS,
    RecordFile,
    RecordWriteError,
    RunFolderError,
    differing_settings,
    read_records,
)
from countgen.benchmarks.evaluation.worker import Outcome
from countgen.files.reading import read_bytes
from countgen.images import check_writable, save_png

LOCK = "lock"


class RunFolder:
    """The results of one `RunSettings` on the disk. Use it as a context manager.

    Images are written before the record that names them, each atomically, so that a kill at any moment costs at most
    the image in progress.

    Attributes:
        path: the folder, created if it does not exist.
        records: finished records by key.
        lost: images of finished records that are missing or incomplete, by key.

    Raises:
        RunFolderError: another run writes into the folder, or it holds results of other settings.
        OSError: the folder cannot be written.
    """

    def __init__(self, path: str | Path, settings: RunSettings) -> None:
        self.path = Path(path)
        self._settings = settings

    def __enter__(self) -> RunFolder:
        if (self.path / PACKED).exists():
            raise RunFolderError(f"{self.path} is a finished run with compressed records; give another folder")
        with ExitStack() as stack:
            check_writable(self.path / IMAGES)
            stack.enter_context(locked(self.path))
            for unfinished in (self.path / IMAGES).glob(".countgen-*.part"):
                unfinished.unlink()  # of an image whose writing was killed
            self.records = {record.key: record for record in read_records(self.path / RECORDS)}
            self._check_settings()
            self.lost = lost_images(self.path, self.records.values())
            self._file = stack.enter_context(RecordFile(self.path / RECORDS))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def keep(self, outcome: Outcome) -> None:
        """Write an outcome: its images, then its record.

        Raises:
            OSError: the disk is full or failed; everything earlier is unchanged.
        """
        record = outcome.record
        # An image whose record a kill prevented is generated again, into the same file.
        for name, image in ((record.before, outcome.before), (record.image, outcome.image)):
            if name and image:
                recipe = outcome.recipe if image is outcome.image else None
                save_png(image, self.path / name, recipe, overwrite=True)
        self._file.append(record)
        self.records[record.key] = record

    def _check_settings(self) -> None:
        path = self.path / SETTINGS
        mine = json.loads(json.dumps(recorded(self._settings)))
        if self.records:
            theirs = _read_settings(path)
            differing = [
                f"{name} (there {theirs.get(name)!r}, now {mine.get(name)!r})"
                for name in differing_settings(mine, theirs)
            ]
            if differing:
                raise RunFolderError(
                    f"{self.path} holds results of other settings, which must not mix: {', '.join(differing)}; "
                    "choose another folder"
                )
        else:
            _write_whole(path, json.dumps(mine, indent=1) + "\n")


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(read_bytes(path, MAX_SETTINGS_BYTES)))
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise RunFolderError(f"there are records, but {path} cannot be read: {error}; choose another folder") from error


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise RecordWriteError(error.errno, f"cannot write {path}: {error.strerror}") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder's lock; the system releases it at any end of the process.

    Raises:
        RunFolderError: another process holds it.
    """
    with (folder / LOCK).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise RunFolderError(
                f"{folder} is in use by another run, process {file.read().strip() or 'unknown'}; "
                "wait for it, or choose another folder"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()} on {os.uname().nodename}\n")
        file.flush()
        yield
