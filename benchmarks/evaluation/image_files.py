"""Read the images of a run, or those that something else generated."""

from __future__ import annotations

from pathlib import Path

from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

READERS: dict[str, type[ImageFile]] = {
    ".png": PngImageFile,
    ".jpg": JpegImageFile,
    ".jpeg": JpegImageFile,
    ".webp": WebPImageFile,
}
"""By a file's ending. Not Image.open: Ultralytics replaces it by one that looks for other formats' plug-ins, and
installs them."""


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
        return reader(path)
    except SyntaxError as error:
        raise ValueError(f"{path} is damaged, or no image of the format that its name says: {error}") from error
