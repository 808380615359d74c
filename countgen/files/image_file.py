"""Image files: every image that the program opens is decoded here."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import Image
from PIL.ImageFile import ImageFile
from PIL.ImageOps import exif_transpose
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from countgen.files.printable import printable
from countgen.files.reading import read_bytes

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""File name endings of the formats."""

MAX_PIXELS = 90_000_000
"""Largest number of pixels of an image; about where PIL warns of decompression bombs."""

MAX_BYTES = 256 * 2**20
"""Largest size of an image file."""

# The formats' own readers in place of Image.open, which tries every format of PIL, some of which start other programs,
# and which Ultralytics replaces by a function that installs plug-ins.
_READERS: dict[bytes, type[ImageFile]] = {
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"\xff\xd8\xff": JpegImageFile,
    b"RIFF": WebPImageFile,
    b"BM": BmpImageFile,
    b"II*\0": TiffImageFile,
    b"MM\0*": TiffImageFile,
    b"GIF8": GifImageFile,
}
DAMAGED = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, OverflowError, EOFError),
    *(struct.error, zlib.error, UserWarning),
)
"""What PIL raises for damaged files; the last one under `python -W error`."""


def open_image(path: str | Path) -> Image:
    """Return the image of a file, decoded as `decode_image` does.

    Raises:
        ValueError: not a regular file, another format, damaged, or too large.
        OSError: the file is missing or cannot be read.
    """
    return decode_image(read_bytes(path, MAX_BYTES), printable(path))


def decode_image(data: bytes, name: str = "the file", max_pixels: int = MAX_PIXELS) -> Image:
    """Return the first frame of an image as RGB, upright as its EXIF orientation says.

    The format is chosen by the first bytes, and the pixels are counted before they are decoded.

    Args:
        data: content of a PNG, JPEG, WebP, BMP, TIFF or GIF file.
        name: of the file, in messages.
        max_pixels: width times height at most.

    Raises:
        ValueError: another format, damaged, or too large.
    """
    reader = next((reader for first, reader in _READERS.items() if data.startswith(first)), None)
    if reader is None:
        raise ValueError(f"{name} is not an image; accepted are PNG, JPEG, WebP, BMP, TIFF and GIF")
    try:
        image = reader(io.BytesIO(data))
        width, height = image.size
        if width * height <= max_pixels:
            return exif_transpose(image).convert("RGB")
    except DAMAGED as error:
        raise ValueError(f"{name} is a damaged image: {printable(error, 200)}") from error
    raise ValueError(f"{name} has {width} x {height} pixels; at most {max_pixels} are read")
