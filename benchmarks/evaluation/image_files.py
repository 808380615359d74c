"""Read the images of a run, or images from another source."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from countgen.benchmarks.evaluation.records import Record
from countgen.printable import printable
from countgen.regular_file import check_regular

READERS: dict[str, type[ImageFile]] = {
    ".png": PngImageFile,
    ".jpg": JpegImageFile,
    ".jpeg": JpegImageFile,
    ".webp": WebPImageFile,
}
"""Readers by a file's ending, in place of Image.open: Ultralytics replaces that by one that installs plug-ins."""

_NAMED = 5
"""Number of lost images that a message names; it counts the others."""


def open_image(path: Path) -> ImageFile:
    """Open an image, not yet decoded, in the format of its file name.

    Raises:
        OSError: no such file.
        ValueError: another ending than those of `READERS`, or a file of another format.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path} is no image that can be read; accepted endings: {', '.join(READERS)}")
    try:
        return reader(check_regular(path))
    except SyntaxError as error:
        raise ValueError(f"{path} is damaged, or not in the format of its name: {error}") from error


def inside(folder: Path, name: str) -> Path | None:
    """Return the path of a file that is named relative to a folder; None where there is none, or it lies outside."""
    path = (folder.resolve() / name).resolve()
    return path if path.is_relative_to(folder.resolve()) and path.is_file() else None


def is_complete(path: Path) -> bool:
    """Return whether an image exists and is complete, by the first and last bytes of its format."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(12)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 12))
            tail = file.read()
    except OSError:
        return False
    suffix = path.suffix.lower()
    if suffix == ".png":
        return head.startswith(b"\x89PNG\r\n\x1a\n") and tail == b"\0\0\0\0IEND\xaeB`\x82"
    if suffix in (".jpg", ".jpeg"):
        return head.startswith(b"\xff\xd8") and tail.endswith(b"\xff\xd9")
    if suffix == ".webp":
        return head[:4] == b"RIFF" and head[8:] == b"WEBP" and size >= 8 + int.from_bytes(head[4:8], "little")
    return True


def lost_images(folder: Path, records: Iterable[Record]) -> dict[str, list[str]]:
    """Return the images of finished records that are missing or incomplete: names relative to the folder, by key.

    Names that lead outside the folder are not checked.
    """
    lost = {}
    for record in records:
        names = dict.fromkeys(name for name in (record.before, record.image) if name)
        inside = [name for name in names if not name.startswith("/") and ".." not in Path(name).parts]
        incomplete = [name for name in inside if not is_complete(folder / name)]
        if incomplete and record.status == "done":
            lost[record.key] = incomplete
    return lost


def lost_images_message(folder: Path, names: Sequence[str]) -> str:
    """Return the beginning of a message: "2 images of RUN are missing or incomplete: a.png, b.png"."""
    shown = ", ".join(printable(name, 100) for name in names[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    number = "1 image" if len(names) == 1 else f"{len(names)} images"
    are = "is" if len(names) == 1 else "are"
    return f"{number} of {printable(folder, 300)} {are} missing or incomplete: {shown}{more}"
