"""The images that `countgen generate` writes: their names, from a template, and a grid of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import count as numbers
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any

from typer import BadParameter

from countgen.app.result_lines import record_of

if TYPE_CHECKING:
    from countgen import Result

DEFAULT_TEMPLATE = "{prompt}-{seed}"
FIELDS = ("prompt", "seed", "model", "method", "counts", "date", "time")
"""What a template may hold in braces."""
KNOWN_FIELDS = ", ".join(f"{{{field}}}" for field in FIELDS)
LONGEST = 120
"""Most characters of a name, so that file systems take it with its ending."""


def name_template(text: str) -> str:
    """Read a template such as "{seed}-{prompt}".

    Raises:
        BadParameter: an unknown field, a path, or no braces that close.
    """
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise BadParameter(f"{text[:60]!r} is not a template: {error}; known are {KNOWN_FIELDS}") from error
    for _, field, form, conversion in parts:
        if field is not None and (field not in FIELDS or form or conversion):
            raise BadParameter(f"{{{field[:60]}}} is not known in a name; known are {KNOWN_FIELDS}")
    if not text.strip() or re.search(r"[/\\]", text):
        raise BadParameter(f"{text[:60]!r} is not a file name; give the folder with --out")
    return text


def named(template: str, values: Mapping[str, str | int]) -> str:
    """Return the name that a template gives, without characters that a file system refuses."""
    name = template.format_map({field: slug(str(values[field])) for field in FIELDS if field in values})
    return re.sub(r"[^\w .,()+=@-]+", "-", name).strip(" .")[:LONGEST].rstrip() or "image"


def slug(text: str) -> str:
    """Return lower-case letters, digits and hyphens for a file name, at most 60 characters."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].rstrip("-") or "image"


def free_paths(folder: Path, stem: str, endings: tuple[str, ...]) -> list[Path]:
    """Return the first paths of that stem, one for each ending, of which none is taken."""
    for number in numbers(1):
        name = stem if number == 1 else f"{stem}-{number}"
        paths = [folder / f"{name}{ending}" for ending in endings]
        if not any(path.exists() for path in paths):
            return paths
    raise AssertionError("numbers do not end")


def save_result(result: Result, folder: Path, template: str) -> dict[str, Any]:
    """Write both images of a result, recipe inside, and return its record."""
    from countgen.images import save_png
    from countgen.recipe import plain

    now = datetime.now()
    values: dict[str, str | int] = {
        "prompt": result.recipe["prompt"],
        "seed": result.seed,
        "model": result.recipe["backbone"],
        "method": result.method,
        "counts": "-".join(f"{target.object_name}-{target.target_count}" for target in result.targets),
        "date": f"{now:%Y-%m-%d}",
        "time": f"{now:%H-%M-%S}",
    }
    before_path, after_path = free_paths(folder, named(template, values), ("-before.png", "-after.png"))
    before = save_png(result.before, before_path, plain(result.recipe))
    try:
        after = save_png(result.image, after_path, result.recipe)
    except BaseException:  # both images or none, on a full disk too
        before.unlink(missing_ok=True)
        raise
    return record_of(result, before, after)


def save_grid(paths: Sequence[Path]) -> Path:
    """Write images of one size as one, in about as many columns as rows, and return its path beside the first."""
    from PIL import Image

    from countgen.images import read_png, save_png

    images = [read_png(path)[0] for path in paths]
    columns = math.ceil(math.sqrt(len(images)))
    width, height = images[0].size
    grid = Image.new("RGB", (columns * width, math.ceil(len(images) / columns) * height), "white")
    for number, image in enumerate(images):
        grid.paste(image, (number % columns * width, number // columns * height))
    return save_png(grid, paths[0].with_name(f"{paths[0].stem.removesuffix('-after')}-grid.png"))
