"""The folder of a run: its settings, its records, its images, and the lock that keeps a second run out."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

from countgen.benchmarks.evaluation.image_files import lost_images
from countgen.benchmarks.evaluation.plan import RunSettings, recorded
from countgen.benchmarks.evaluation.records import (
    IMAGES,
    PACKED,
    RECORDS,
    SETTINGS,
    RunFolderError,
    differing_settings,
    read_records,
    read_settings,
)
from countgen.benchmarks.evaluation.worker import Outcome
from countgen.files.folder import locked, writable_path
from countgen.files.json_lines import LineFile, RecordWriteError
from countgen.files.printable import printable
from countgen.files.writing import PARTS, write_atomically
from countgen.images import check_writable, save_png


class RunFolder:
    """The results of one `RunSettings` on the disk. Use it as a context manager.

    Images are written before the record that names them, each atomically, so that a kill at any moment costs at most
    the image in progress.

    Attributes:
        path: the folder, created if it does not exist.
        records: finished records by key.
        lost: images of finished records that are missing or incomplete, by key.

    Raises:
        FolderInUseError: another run writes into the folder.
        RunFolderError: it holds results of other settings.
        OSError: the folder cannot be written.
    """

    def __init__(self, path: str | Path, settings: RunSettings) -> None:
        self.path = Path(path)
        self._settings = settings

    def __enter__(self) -> RunFolder:
        if (self.path / PACKED).exists():
            raise RunFolderError(
                f"{printable(self.path)} is a finished run with compressed records; give another folder"
            )
        writable_path(self.path, f"{IMAGES}/{PARTS}")  # not through a linked folder
        with ExitStack() as stack:
            check_writable(self.path / IMAGES)
            stack.enter_context(locked(self.path))
            for unfinished in (self.path / IMAGES).glob(PARTS):
                unfinished.unlink()  # of an image whose writing was killed
            self.records = {record.key: record for record in read_records(self.path / RECORDS)}
            self._check_settings()
            self.lost = lost_images(self.path, self.records.values())
            self._file = stack.enter_context(LineFile(self.path, RECORDS))
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
                save_png(image, writable_path(self.path, name), recipe, overwrite=True)
        self._file.append(record.to_line())
        self.records[record.key] = record

    def _check_settings(self) -> None:
        settings = json.loads(json.dumps(recorded(self._settings)))
        if not self.records:
            data = json.dumps(settings, indent=1).encode() + b"\n"
            try:
                write_atomically(data, writable_path(self.path, SETTINGS))
            except OSError as error:
                path = printable(self.path / SETTINGS)
                raise RecordWriteError(error.errno, f"cannot write {path}: {error.strerror}") from error
            return
        try:
            earlier = read_settings(self.path)
        except (OSError, RunFolderError) as error:
            raise RunFolderError(
                f"there are records without readable settings: {error}; choose another folder"
            ) from error
        if differing := differing_settings(settings, earlier):
            described = ", ".join(
                f"{name} (there {earlier.get(name)!r}, now {settings.get(name)!r})" for name in differing
            )
            raise RunFolderError(
                f"{printable(self.path)} holds results of other settings, which must not mix: {printable(described)}; "
                "choose another folder"
            )
