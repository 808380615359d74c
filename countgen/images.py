"""Convert tensors to PIL images, read and write PNG files that hold a recipe, and draw boxes."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngImageFile, PngInfo
from torch import Tensor

from countgen.errors import ImageWriteError, RecipeError
from countgen.generation_parameters import as_text

RECIPE_KEY = "countgen"
"""Keyword of the PNG text chunk."""

PARAMETERS_KEY = "parameters"
"""Keyword of the text chunk that AUTOMATIC1111's web UI, Civitai and others read."""

MAX_RECIPE_BYTES = 4 * 1024 * 1024
"""Largest recipe in bytes of JSON, both when written and when read. Tuned latents of 16 x 128 x 128 take 1.4 MiB."""


MAX_PIXELS = 4096 * 4096
"""Largest number of pixels of an image that is read back."""

_NO_HARD_LINKS = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""Errors of file systems without hard links, such as FAT and some network mounts."""


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
        message = f"cannot write to the folder {folder}: {reason}; give another one"
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
        RecipeError: the recipe is no JSON or too long.
        ImageWriteError: the disk is full, or the folder is missing or not writable.
    """
    path = Path(path)
    image = to_pil(image) if isinstance(image, Tensor) else image
    text = None if recipe is None else _encoded(recipe)
    parameters = None if recipe is None else as_text(recipe)
    temporary = None
    try:
        # Not tempfile, whose files are private to their owner: an image is created as an ordinary file.
        unfinished = path.parent / f".countgen-{secrets.token_hex(8)}.part"
        with unfinished.open("xb") as file:
            temporary = unfinished
            info = PngInfo()
            if text is not None:
                info.add_text(RECIPE_KEY, text)
            if parameters is not None:
                info.add_text(PARAMETERS_KEY, parameters)
            image.save(file, format="PNG", pnginfo=info)
            file.flush()
            os.fsync(file.fileno())
        return _publish(temporary, path, overwrite)
    except OSError as error:
        raise ImageWriteError(error.errno, f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path, overwrite: bool) -> Path:
    """Rename a finished file atomically; without `overwrite`, to the first free name."""
    if overwrite:
        os.replace(temporary, path)
        return path
    number = 1
    while True:
        wanted = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        number += 1
        with contextlib.suppress(FileExistsError):
            _move(temporary, wanted)
            return wanted


def _move(temporary: Path, wanted: Path) -> None:
    """Rename a file to a free name, or raise FileExistsError, also where two processes use one name at a time."""
    try:
        os.link(temporary, wanted)  # never replaces
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # Only the process that created the empty file may replace it.
        os.close(os.open(wanted, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            os.replace(temporary, wanted)
        except OSError:
            wanted.unlink(missing_ok=True)
            raise


def _encoded(recipe: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(dict(recipe), allow_nan=False, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise RecipeError(f"the recipe is not JSON: {error}; use numbers, strings, lists and dictionaries") from error
    if len(text) > MAX_RECIPE_BYTES:
        raise RecipeError(f"the recipe has {len(text)} bytes of JSON, at most {MAX_RECIPE_BYTES} are written")
    return text


def read_recipe(path: str | Path | BinaryIO) -> dict[str, Any]:
    """Return the recipe inside a PNG that `save_png` wrote; the pixels are not decoded.

    Args:
        path: a path, or an open binary file, which messages call "the file".

    Raises:
        FileNotFoundError: no such file.
        RecipeError: no PNG, one without a recipe, or a recipe that is too long or no JSON object.
    """
    source, path = path, path if isinstance(path, str | Path) else "the file"
    if isinstance(source, str | Path) and (Path(source).is_fifo() or Path(source).is_char_device()):
        raise RecipeError(f"{path} is not a regular file; give an image that countgen saved")  # reading would block
    try:
        # Not Image.open: Ultralytics replaces it by one that searches for other formats' plug-ins, and installs them.
        with PngImageFile(source) as image:
            text = image.info.get(RECIPE_KEY)
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise RecipeError(f"{path} is no readable PNG: {reason}") from error
    if not isinstance(text, str):
        raise RecipeError(f"{path} holds no recipe; only images saved by countgen carry one, and editors drop it")
    if len(text) > MAX_RECIPE_BYTES:
        raise RecipeError(f"the recipe in {path} has {len(text)} characters, at most {MAX_RECIPE_BYTES} are read")
    try:
        recipe = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"the recipe in {path} is not JSON: {error}") from error
    if not isinstance(recipe, dict):
        raise RecipeError(f"the recipe in {path} is a JSON {type(recipe).__name__}, expected an object")
    return recipe


def read_png(path: str | Path) -> tuple[Image.Image, dict[str, Any]]:
    """Return the RGB image and the recipe inside a PNG that `save_png` wrote.

    Raises:
        FileNotFoundError: no such file.
        RecipeError: as `read_recipe`, or pixels that are damaged or more than MAX_PIXELS.
    """
    recipe = read_recipe(path)
    try:
        with PngImageFile(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise RecipeError(f"{path} has {image.width} x {image.height} pixels, at most {MAX_PIXELS} are read")
            return image.convert("RGB"), recipe
    except (OSError, SyntaxError) as error:
        raise RecipeError(f"the pixels of {path} cannot be read: {error}") from error


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
    if enlarge > 1:
        image = image.resize((image.width * enlarge, image.height * enlarge), Image.Resampling.NEAREST)
    else:
        image = image.copy()
    canvas = ImageDraw.Draw(image)
    line = max(1, image.width // 200)
    for x1, y1, x2, y2 in boxes.tolist() if isinstance(boxes, Tensor) else boxes:
        canvas.rectangle([v * enlarge for v in (x1, y1, x2, y2)], outline=colour, width=line)
    font = ImageFont.load_default(size=max(10, image.width // 18))
    box = canvas.textbbox((3, 1), label, font=font)
    canvas.rectangle((0, 0, box[2] + 3, box[3] + 3), fill=colour)
    canvas.text((3, 1), label, fill="white", font=font)
    return image
