"""The folder of a set: its plan, its records, its images, and how far each cell is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from countgen.datasets.plan import Cell, Plan
from countgen.datasets.sampler import Attempt, Outcome
from countgen.files.folder import LOCK, locked, writable_path
from countgen.files.json_lines import LineFile, read_lines
from countgen.files.printable import printable
from countgen.files.reading import read_bytes
from countgen.files.schema import decoded
from countgen.files.writing import PARTS, write_atomically
from countgen.images import check_writable, save_png

RECORDS = "records.jsonl"
PLAN = "plan.json"
MODEL = "model.json"
MAX_DISTANCE = 4
"""Hamming distance of two perceptual hashes of 64 bits up to which images are near duplicates."""


@dataclass
class Progress:
    """How far a cell is: accepted images, attempts, and seeds that these drew."""

    cell: Cell
    images: int = 0
    attempts: int = 0
    seeds: int = 0
    layouts: list[int] = field(default_factory=list)

    @property
    def open(self) -> bool:
        """Whether images are missing and the budget of seeds is not spent."""
        return self.lacks > 0 and self.seeds < self.cell.max_attempts

    @property
    def lacks(self) -> int:
        """Number of missing images."""
        return self.cell.group.images - self.images

    def add(self, attempt: Attempt) -> None:
        """Count an attempt, which follows the last one."""
        self.attempts += 1
        self.seeds += attempt.seeds
        if not attempt.reason:
            self.images += 1
            self.layouts.append(int(attempt.layout, 16))

    def is_duplicate(self, attempt: Attempt) -> bool:
        """Whether an accepted image of the cell has almost the same layout."""
        layout = int(attempt.layout, 16)
        return any((layout ^ other).bit_count() <= MAX_DISTANCE for other in self.layouts)


class Folder:
    """A set on the disk. Use it as a context manager.

    An image is written before the record that names it, each atomically, so that a kill at any moment costs at most
    the attempts in progress.

    Attributes:
        path: of the folder, which is created.
        plan: of the set.
        cells: how far each is.

    Raises:
        FolderInUseError: another run writes into it.
        ValueError: it holds something else, a set of another plan or model, or lacks an image.
        OSError: it cannot be written.
    """

    def __init__(self, path: str | Path, plan: Plan, identity: dict[str, Any], *, keep_rejected: bool = False) -> None:
        self.path, self.plan, self.identity, self._keep_rejected = Path(path), plan, identity, keep_rejected
        self.cells = [Progress(cell) for cell in plan.cells()]
        self.splits = plan.split_of_images()

    def __enter__(self) -> Folder:
        others = [path for path in self.path.glob("*") if path.name != LOCK and not path.match(PARTS)]
        if others and self.path / PLAN not in others:
            raise ValueError(f"{printable(self.path)} is not a set of countgen, and not empty; give a new folder")
        with ExitStack() as stack:
            check_writable(self.path)
            stack.enter_context(locked(self.path))
            for unfinished in self.path.rglob(PARTS):
                unfinished.unlink()  # of a file whose writing was killed
            self._check_same()
            for attempt in self.attempts():
                self.cells[attempt.cell].add(attempt)
                if attempt.image and not (self.path / attempt.image).exists():
                    raise ValueError(
                        f"{printable(self.path / attempt.image)} is missing; put it back, or give a new folder"
                    )
            self._file = stack.enter_context(LineFile(self.path, RECORDS))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def attempts(self) -> Iterator[Attempt]:
        """Yield what is recorded, in the order in which it was finished."""
        return read_lines(self.path / RECORDS, Attempt, ", and give the same command again")

    def samples(self) -> list[Attempt]:
        """Return the accepted images in the order of the plan."""
        return sorted((a for a in self.attempts() if not a.reason), key=lambda attempt: (attempt.cell, attempt.number))

    def keep(self, outcome: Outcome) -> Attempt:
        """Write the next attempt of a cell: its image, then its record.

        Raises:
            OSError: the disk is full or failed; everything earlier is unchanged.
        """
        progress, attempt = self.cells[outcome.attempt.cell], outcome.attempt
        if not attempt.reason and progress.is_duplicate(attempt):
            attempt = replace(attempt, reason="its layout is that of an earlier image", boxes=())
        image = ""
        if not attempt.reason:
            number = progress.cell.first_image + progress.images
            image = f"images/{self.splits[number]}/{number + 1:06d}.png"
        elif self._keep_rejected:
            image = f"rejected/{attempt.cell:04d}-{attempt.number:05d}.png"
        attempt = replace(attempt, image=image)
        if image:
            path = writable_path(self.path, image)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_png(outcome.image, path, outcome.recipe, overwrite=True)
        self._file.append(attempt.to_line())
        progress.add(attempt)
        return attempt

    def write(self, name: str, data: str | bytes) -> None:
        """Write a file of the set atomically."""
        path = writable_path(self.path, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(data.encode() if isinstance(data, str) else data, path)

    def _check_same(self) -> None:
        """Record plan and model in a new folder, and compare them with those of an old one."""
        for name, now in ((PLAN, to_builtins(self.plan)), (MODEL, self.identity)):
            path, plain = self.path / name, json.loads(json.dumps(now))
            if not path.exists():
                self.write(name, json.dumps(plain, indent=1) + "\n")
                continue
            earlier = decoded(read_bytes(path, 2**24), dict[str, Any])
            if differing := [key for key in {**earlier, **plain} if earlier.get(key) != plain.get(key)]:
                raise ValueError(
                    f"{printable(self.path)} holds a set of another {Path(name).stem} ({', '.join(differing)}); give "
                    "the command it was begun with, or a new folder"
                )
