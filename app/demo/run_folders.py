"""The evaluations that the demo shows: folders under one root, by name, and the study that comes with countgen."""

from __future__ import annotations

import logging
from pathlib import Path

from PIL import Image

import benchmarks
from app.demo.limits import RefusedError
from benchmarks.evaluation.image_files import open_image
from benchmarks.evaluation.records import SETTINGS, Record, RunFolderError, read_run
from countgen.images import MAX_PIXELS

STUDY = "The study that comes with countgen"
STUDY_FOLDER = Path(benchmarks.__file__).parent / "results" / "study"
MAX_LISTED = 200
MAX_DEPTH = 3
MAX_PICTURE_BYTES = 10 * 1024 * 1024


class RunFolders:
    """Run folders by the names visitors see; a name that is not in the list opens nothing.

    Args:
        root: the folder given when the demo was started; None for the study alone.
    """

    def __init__(self, root: Path | None) -> None:
        self.root = None if root is None else root.resolve()

    def names(self) -> list[str]:
        """The study, if it is there, and every run up to three folders below the root, the newest first."""
        return list(self._by_name())

    def folder(self, name: object) -> Path:
        """The folder of a name in the list.

        Raises:
            RefusedError: any other name, whatever path it spells.
        """
        folder = self._by_name().get(name) if isinstance(name, str) else None
        if folder is None:
            raise RefusedError("There is no such run here; choose one of the list.")
        return folder

    def read(self, name: object) -> list[Record]:
        """The records of a run.

        Raises:
            RefusedError: no such name, or a damaged run; what is wrong with it names paths and goes to the log.
        """
        try:
            return read_run(self.folder(name))[1]
        except RunFolderError as error:
            logging.getLogger(__name__).warning("%s", error)
            raise RefusedError("This run cannot be read; the server's log says why.") from error

    def _by_name(self) -> dict[str, Path]:
        folders = {STUDY: STUDY_FOLDER} if (STUDY_FOLDER / SETTINGS).is_file() else {}
        if self.root is None:
            return folders
        found = _runs_in(self.root, MAX_DEPTH)
        found.sort(key=lambda folder: (folder / SETTINGS).stat().st_mtime, reverse=True)
        # The root may be a run itself.
        own = {f.name if f == self.root else str(f.relative_to(self.root)): f for f in found[:MAX_LISTED]}
        return folders | own


def _runs_in(folder: Path, depth: int) -> list[Path]:
    if (folder / SETTINGS).is_file():
        return [folder]
    if not depth:
        return []
    # A link could lead out of the root.
    inner = [child for child in sorted(folder.iterdir()) if child.is_dir() and not child.is_symlink()]
    return [run for child in inner if not child.name.startswith(".") for run in _runs_in(child, depth - 1)]


def picture_of(folder: Path, relative: str | None) -> Image.Image | None:
    """A picture of a run as RGB; None where it is missing, too large, no picture, or outside the run's folder."""
    if relative is None:
        return None
    try:
        path = (folder / relative).resolve()
        if not path.is_relative_to(folder.resolve()):
            return None
        if path.stat().st_size > MAX_PICTURE_BYTES:
            return None
        with open_image(path) as picture:
            return picture.convert("RGB") if picture.width * picture.height <= MAX_PIXELS else None
    except (OSError, SyntaxError, ValueError):
        return None
