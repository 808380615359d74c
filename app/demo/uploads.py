"""Files that a visitor gives to the page: they arrive as base64 beside the inputs and never touch the disk."""

from __future__ import annotations

import base64
import binascii
import io
import struct
from html import escape
from typing import Any

from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from countgen.app.demo.limits import RefusedError
from countgen.errors import RecipeError
from countgen.images import read_recipe

_READERS: tuple[tuple[int, bytes, type[ImageFile]], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", PngImageFile),
    (0, b"\xff\xd8\xff", JpegImageFile),
    (8, b"WEBP", WebPImageFile),
)
"""Offset and value of a format's first bytes, and the format's own reader.

`Image.open` would try every format that PIL knows, and Ultralytics replaces it by one that installs plug-ins.
"""
_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, LookupError, OverflowError, struct.error)
"""What PIL raises for damaged files."""

_LISTEN = """
const give = (file) => { if (file) read(file).then(data => { element.given = data; trigger('upload', {data}); }); };
const asText = (blob) => new Promise(done => { const reader = new FileReader();
  reader.onload = () => done(reader.result.slice(reader.result.indexOf(',') + 1)); reader.readAsDataURL(blob); });
element.addEventListener('change', event => {
  if (event.target.type === 'file') { give(event.target.files[0]); event.target.value = ''; } });
element.addEventListener('dragover', event => event.preventDefault());
element.addEventListener('drop', event => { event.preventDefault(); give(event.dataTransfer.files[0]); });
"""
FILE_JS = "const read = (file) => asText(file.slice(0, 1048577));" + _LISTEN
"""Script of a field for a file: sends its beginning, which holds a recipe whole, or one byte more than is accepted."""

PHOTO_JS = (
    """
const read = async (file) => {
  try {
    const image = await createImageBitmap(file);
    const scale = Math.min(1, 1280 / Math.max(image.width, image.height));
    const canvas = document.createElement('canvas');
    canvas.width = Math.max(1, Math.round(image.width * scale));
    canvas.height = Math.max(1, Math.round(image.height * scale));
    canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
    const uri = canvas.toDataURL('image/jpeg', 0.9);
    return uri.slice(uri.indexOf(',') + 1);
  } catch { return asText(file.slice(0, 1048577)); }
};
element.addEventListener('click', event => {
  if (event.target.matches('button') && element.given) trigger('upload', {data: element.given}); });
"""
    + _LISTEN
)
"""Script of a field for a photograph: sends it as a JPEG of at most 1280 pixels; its button sends it again."""


def file_field(label: str, accepted: str, element_id: str) -> str:
    """Return a field for one file, which can also be dropped on it."""
    return (
        f"<label class='file'>{escape(label)} "
        f"<input type='file' accept='{escape(accepted, quote=True)}' id='{escape(element_id, quote=True)}'></label>"
    )


def decoded_file(data: object, max_bytes: int, what: str) -> bytes:
    """Return the content of a file that was sent as base64, with or without the beginning of a data URI.

    Args:
        data: what the page or a client sent.
        max_bytes: of the content.
        what: "This file is not an image", the beginning of the messages.

    Raises:
        RefusedError: no base64, or too large.
    """
    if not isinstance(data, str):
        raise RefusedError(f"{what}.")
    text = _base64_of(data)
    if len(text) > 4 * (max_bytes // 3 + 2):
        raise RefusedError(f"{what}: it is larger than {max_bytes // 1024} KiB.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError(f"{what}.") from error


def decoded_image(data: object, max_bytes: int, max_pixels: int) -> Image.Image:
    """Return an uploaded image as RGB; its pixels are counted before they are decoded.

    Raises:
        RefusedError: no PNG, JPEG or WebP, damaged, or too large in bytes or pixels.
    """
    content = decoded_file(data, max_bytes, "This file is not a PNG, JPEG or WebP image")
    reader = next((one for at, head, one in _READERS if content[at : at + len(head)] == head), None)
    if reader is None:
        raise RefusedError("This file is not a PNG, JPEG or WebP image.")
    try:
        with reader(io.BytesIO(content)) as image:
            if image.width * image.height > max_pixels:
                raise RefusedError(
                    f"This image has {image.width} x {image.height} pixels; at most {max_pixels} are read."
                )
            return image.convert("RGB")
    except RefusedError:
        raise
    except _DAMAGED as error:
        raise RefusedError("This image is damaged and cannot be read.") from error


def decoded_recipe(data: object, max_bytes: int) -> dict[str, Any]:
    """Return the recipe inside an uploaded PNG of countgen; the beginning of the file is enough.

    Raises:
        RefusedError: no PNG of countgen, or a recipe that the accepted bytes do not hold.
    """
    if isinstance(data, str):
        data = _base64_of(data)[: 4 * (max_bytes // 3)]  # the recipe stands before the pixels
    content = decoded_file(data, max_bytes, "This file is not a PNG that countgen saved")
    try:
        return read_recipe(io.BytesIO(content))
    except (RecipeError, *_DAMAGED) as error:
        raise RefusedError(
            "This file holds no recipe. Give a PNG that countgen saved; editors and messengers drop the recipe."
        ) from error


def _base64_of(data: str) -> str:
    """Return base64 text without the beginning of a data URI."""
    return data.partition(",")[2] if data.startswith("data:") else data
