"""Convert tensors to PIL images, read and write PNG files that hold a recipe, and draw boxes."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any, BinaryIO

import torch
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngImageFile, PngInfo
from torch import Tensor

from countgen.critics import Detections
from countgen.errors import ImageWriteError, RecipeError
from countgen.files.image_file import DAMAGED, open_image
from countgen.files.printable import printable
from countgen.files.reading import open_regular
from countgen.files.schema import decoded, encoded
from countgen.files.writing import write_atomically
from countgen.generation_parameters import as_text

RECIPE_KEY = "countgen"
"""Keyword of the PNG text chunk."""

PARAMETERS_KEY = "parameters"
"""Keyword of the text chunk that AUTOMATIC1111's web UI, Civitai and others read."""

MAX_RECIPE_BYTES = 4 * 1024 * 1024
"""Largest recipe in bytes of JSON, both when written and when read. Tuned latents of 16 x 128 x 128 take 1.4 MiB."""

_CLASS_COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#000075")


def to_pil(image: Tensor) -> Image.Image:
    """Return an 8-bit RGB image of float (3, H, W), rounded as diffusers does; values outside [0, 1] are clipped."""
    if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
        raise ValueError(f"expected one RGB float image (3, H, W), got {image.dtype} {tuple(image.shape)}")
    pixels = (image.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


def check_writable(folder: str | Path) -> Path:
    """Create a folder, if it does not exist, and check that a file can be written into it.

    Raises:
        ImageWriteError: no file can be written; the message gives the reason.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        message = f"cannot write to the folder {printable(folder)}: {reason}; give another one"
        raise ImageWriteError(error.errno, message) from error


def save_png(
    image: Tensor | Image.Image, path: str | Path, recipe: Mapping[str, Any] | None = None, *, overwrite: bool = False
) -> Path:
    """Write a PNG with its recipe inside, atomically.

    Args:
        image: RGB float (3, H, W) in [0, 1], or a PIL image.
        path: in an existing folder. An existing file is kept, and "-2", "-3", ... is appended to the new name.
        recipe: a dict that JSON can hold, at most 4 MiB; stored as the text chunk `countgen`. Prompt, seed, steps and
            model are also in the chunk `parameters`, which other programs show.
        overwrite: replace an existing file.

    Returns:
        The path written.

    Raises:
        RecipeError: the recipe cannot be stored as JSON, or is too long.
        ImageWriteError: the disk is full, or the folder is missing or not writable.
    """
    path, data = Path(path), png_bytes(image, recipe)
    try:
        return _write(data, path, overwrite)
    except OSError as error:
        raise ImageWriteError(error.errno, f"cannot write {printable(path)}: {error.strerror}") from error


def png_bytes(image: Tensor | Image.Image, recipe: Mapping[str, Any] | None = None) -> bytes:
    """Return the PNG that `save_png` writes; arguments and RecipeError as there."""
    info = PngInfo()
    if recipe is not None:
        info.add_text(RECIPE_KEY, _encoded(recipe))
        if (parameters := as_text(recipe)) is not None:
            info.add_text(PARAMETERS_KEY, parameters)
    file = io.BytesIO()
    (to_pil(image) if isinstance(image, Tensor) else image).save(file, format="PNG", pnginfo=info)
    return file.getvalue()


def _write(data: bytes, path: Path, overwrite: bool) -> Path:
    """Write a file atomically; without `overwrite`, under the first free name."""
    free, number = path, 1
    while True:
        if overwrite or not os.path.lexists(free):
            with suppress(FileExistsError):
                write_atomically(data, free, overwrite=overwrite)
                return free
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")


def _encoded(recipe: Mapping[str, Any]) -> str:
    try:
        text = encoded(dict(recipe))
    except ValueError as error:
        raise RecipeError(f"the recipe is not JSON: {error}; use numbers, strings, lists and dictionaries") from error
    if len(text) > MAX_RECIPE_BYTES:
        raise RecipeError(f"the recipe has {len(text)} bytes of JSON, at most {MAX_RECIPE_BYTES} are written")
    return text.decode()


def read_recipe(path: str | Path | BinaryIO) -> dict[str, Any]:
    """Return the recipe inside a PNG that `save_png` wrote; the pixels are not decoded.

    Args:
        path: a path, or an open binary file, which is closed; messages call it "the file".

    Raises:
        FileNotFoundError: no such file.
        RecipeError: not a PNG, a PNG without a recipe, or a recipe that is too long or not a JSON object.
    """
    name = printable(path) if isinstance(path, str | Path) else "the file"
    try:
        # Not Image.open: Ultralytics replaces it by one that searches for other formats' plug-ins, and installs them.
        opened = open_regular(path) if isinstance(path, str | Path) else path
        with opened as file, PngImageFile(file) as image:
            text = image.info.get(RECIPE_KEY)
    except FileNotFoundError:
        raise
    except DAMAGED as error:
        raise RecipeError(f"{name} cannot be read as a PNG: {printable(error, 200)}") from error
    if not isinstance(text, str):
        raise RecipeError(f"{name} holds no recipe; only images saved by countgen carry one, and editors drop it")
    if len(text) > MAX_RECIPE_BYTES:
        raise RecipeError(f"the recipe in {name} has {len(text)} characters, at most {MAX_RECIPE_BYTES} are read")
    try:
        return decoded(text, dict[str, Any])
    except ValueError as error:
        raise RecipeError(f"the recipe in {name} cannot be read: {error}") from error


def read_png(path: str | Path) -> tuple[Image.Image, dict[str, Any]]:
    """Return the RGB image and the recipe inside a PNG that `save_png` wrote.

    Raises:
        FileNotFoundError: no such file.
        RecipeError: as `read_recipe`, or pixels that are damaged or too many.
    """
    recipe = read_recipe(path)
    try:
        return open_image(path), recipe
    except ValueError as error:
        raise RecipeError(str(error)) from error


def draw_boxes(
    image: Tensor | Image.Image,
    boxes: Tensor | Iterable[Iterable[float]],
    label: str,
    *,
    colour: str = "#e6194b",
    enlarge: int = 1,
) -> Image.Image:
    """Return the image with a frame around every box, and a label in the corner.

    Args:
        image: RGB float (3, H, W) in [0, 1], or a PIL image.
        boxes: (K, 4) absolute-pixel xyxy in that image.
        label: for example "7 apples".
        colour: of the frames, as PIL names colours.
        enlarge: whole factor by which the image is enlarged first, so that small ones stay legible.
    """
    image = (to_pil(image) if isinstance(image, Tensor) else image).convert("RGB")
    image = image.resize((image.width * enlarge, image.height * enlarge), Image.Resampling.NEAREST)  # a copy
    canvas = ImageDraw.Draw(image)
    line = max(1, image.width // 200)
    for corners in boxes.tolist() if isinstance(boxes, Tensor) else boxes:
        canvas.rectangle([enlarge * value for value in corners], outline=colour, width=line)
    font = ImageFont.load_default(size=max(10, image.width // 18))
    box = canvas.textbbox((3, 1), label, font=font)
    canvas.rectangle((0, 0, box[2] + 3, box[3] + 3), fill=colour)
    canvas.text((3, 1), label, fill="white", font=font)
    return image


def draw_detections(image: Tensor | Image.Image, detections: Iterable[Detections], label: str) -> Image.Image:
    """Return the image with the boxes of every object class in a colour of its own; arguments as of `draw_boxes`."""
    image = to_pil(image) if isinstance(image, Tensor) else image
    for of_class, colour in zip(detections, cycle(_CLASS_COLOURS), strict=False):
        image = draw_boxes(image, of_class.boxes.cpu(), label, colour=colour)
    return image
