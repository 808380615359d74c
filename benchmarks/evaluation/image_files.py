"""Read the images of a run, or those that something else generated."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from benchmarks.evaluation.records import Record
from countgen.printable import printable
from countgen.regular_file import check_regular

READERS: dict[str, type[ImageFile]] = {
    ".png": PngImageFile,
    ".jpg": JpegImageFile,
    ".jpeg": JpegImageFile,
    ".webp": WebPImageFile,
}
"""By a file's ending. Not Image.open: Ultralytics replaces it by one that looks for other formats' plug-ins, and
installs them."""

_NAMED = 5
"""Lost pictures that a message names; the others it counts."""


def open_image(path: Path) -> ImageFile:
    """Open an image, not yet decoded, as the format that its name says.

    Raises:
        OSError: no such file.
        ValueError: another ending than those of `READERS`, or a file of another format.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path} is no image that is read; one ends in {', '.join(READERS)}")
    try:
        return reader(check_regular(path))
    except SyntaxError as error:
        raise ValueError(f"{path} is damaged, or no image of the format that its name says: {error}") from error


def is_whole(path: Path) -> bool:
    """Whether a picture is there and not cut short, by how its format begins and ends; it is not decoded."""
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


def lost_pictures(folder: Path, records: Iterable[Record]) -> dict[str, list[str]]:
    """Pictures of finished records that are missing or cut short: names relative to the folder, by key.

    Names that lead out of the folder are left out: the picture is somebody else's.
    """
    lost = {}
    for record in records:
        names = dict.fromkeys(name for name in (record.before, record.image) if name)
        inside = [name for name in names if not name.startswith("/") and ".." not in Path(name).parts]
        mine = [name for name in inside if not is_whole(folder / name)]
        if mine and record.status == "done":
            lost[record.key] = mine
    return lost


def said_of_lost(folder: Path, names: Sequence[str]) -> str:
    """The beginning of a line that names them: "2 pictures of RUN are missing or cut short: a.png, b.png"."""
    shown = ", ".join(printable(name, 100) for name in names[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    number = "1 picture" if len(names) == 1 else f"{len(names)} pictures"
    are = "is" if len(names) == 1 else "are"
    return f"{number} of {printable(folder, 300)} {are} missing or cut short: {shown}{more}"
