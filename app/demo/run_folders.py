"""The evaluations that the demo shows: run folders below one root, and the study that ships with countgen."""

from __future__ import annotations

import logging
from pathlib import Path

from PIL import Image

from countgen import benchmarks
from countgen.app.demo.limits import RefusedError
from countgen.benchmarks.evaluation.judgements import read_judgements, with_judgements
from countgen.benchmarks.evaluation.records import SETTINGS, Record, read_run
from countgen.files.folder import readable_path
from countgen.files.image_file import open_image
from countgen.images import MAX_PIXELS

STUDY = "The study that ships with countgen"
STUDY_FOLDER = Path(benchmarks.__file__).parent / "results" / "study"
MAX_LISTED = 200
MAX_DEPTH = 3
MAX_IMAGE_BYTES = 10 * 1024 * 1024


class RunFolders:
    """Map the names that visitors see to run folders; a name that is not listed opens nothing.

    Args:
        root: the folder given at the start of the demo; None for the study only.
    """

    def __init__(self, root: Path | None) -> None:
        self.root = None if root is None else root.resolve()

    def names(self) -> list[str]:
        """Return every run up to three folders below the root, newest first, and the study if it is installed."""
        return list(self._by_name())

    def folder(self, name: object) -> Path:
        """Return the folder of a listed run.

        Raises:
            RefusedError: the name is not listed; a path is never a name.
        """
        folder = self._by_name().get(name) if isinstance(name, str) else None
        if folder is None:
            raise RefusedError("Unknown run; choose one from the list.")
        return folder

    def read(self, name: object) -> list[Record]:
        """Return the records of a run, with the judges that came later.

        Raises:
            RefusedError: the name is not listed, or the run is damaged; the details name paths and go to the log only.
        """
        folder = self.folder(name)
        try:
            return with_judgements(read_run(folder)[1], read_judgements(folder))
        except ValueError as error:
            logging.getLogger(__name__).warning("%s", error)
            raise RefusedError("This run cannot be read; the reason is in the server's log.") from error

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


def read_image(folder: Path, relative: str | None) -> Image.Image | None:
    """Return an image of a run as RGB; None if it is missing, too large, unreadable or outside the run's folder."""
    path = None if relative is None else readable_path(folder, relative)
    try:
        if path is None or path.stat().st_size > MAX_IMAGE_BYTES:
            return None
        return open_image(path, MAX_PIXELS)
    except (OSError, ValueError):
        return None
