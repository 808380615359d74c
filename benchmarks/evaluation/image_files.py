"""Find the images of a run that are missing or incomplete."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from countgen.benchmarks.evaluation.records import Record
from countgen.files.folder import readable_path
from countgen.files.printable import printable
from countgen.files.reading import open_regular

_NAMED = 5
"""Number of lost images that a message names; it counts the others."""
_END = b"\0\0\0\0IEND\xaeB`\x82"
"""Last bytes of a PNG."""


def is_complete(path: Path) -> bool:
    """Return whether an image exists and is complete, a PNG by its last bytes."""
    try:
        with open_regular(path) as file:
            file.seek(-len(_END), os.SEEK_END)
            return path.suffix.lower() != ".png" or file.read() == _END
    except (OSError, ValueError):
        return False


def lost_images(folder: Path, records: Iterable[Record]) -> dict[str, list[str]]:
    """Return the images of finished records that are missing, incomplete or outside the folder: their names by key."""
    lost = {}
    for record in records:
        names = dict.fromkeys(name for name in (record.before, record.image) if name)
        paths = {name: readable_path(folder, name) for name in names}
        incomplete = [name for name, path in paths.items() if path is None or not is_complete(path)]
        if incomplete and record.status == "done":
            lost[record.key] = incomplete
    return lost


def lost_images_message(folder: Path, names: Sequence[str]) -> str:
    """Return the beginning of a message: "missing or incomplete images in RUN: 2, a.png, b.png"."""
    shown = ", ".join(printable(name, 100) for name in names[:_NAMED])
    more = ", ..." if len(names) > _NAMED else ""
    return f"missing or incomplete images in {printable(folder, 300)}: {len(names)}, {shown}{more}"
