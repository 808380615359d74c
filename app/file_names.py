"""Names of the images that `countgen generate` writes, from a template."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path
from string import Formatter

from typer import BadParameter

DEFAULT_TEMPLATE = "{prompt}-{seed}"
FIELDS = ("prompt", "seed", "model", "method", "counts", "date", "time")
"""What a template may hold in braces."""
KNOWN_FIELDS = ", ".join(f"{{{field}}}" for field in FIELDS)
LONGEST = 120
"""Most characters of a name, so that file systems take it with its ending."""


def name_template(text: str) -> str:
    """Return a template such as "{seed}-{prompt}" if it is valid."""
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
    """Return the name that a template gives, with only characters that file systems accept."""
    name = template.format_map({field: slug(str(values[field])) for field in FIELDS if field in values})
    return re.sub(r"[^\w .,()+=@-]+", "-", name).strip(" .")[:LONGEST].rstrip() or "image"


def slug(text: str) -> str:
    """Return lower-case letters, digits and hyphens for a file name, at most 60 characters."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].rstrip("-") or "image"


def free_paths(folder: Path, stem: str, endings: tuple[str, ...]) -> list[Path]:
    """Return unused paths, one per ending: numbered if the stem is taken."""
    stems = chain([stem], (f"{stem}-{number}" for number in count(2)))
    choices = ([folder / f"{name}{ending}" for ending in endings] for name in stems)
    return next(paths for paths in choices if not any(path.exists() for path in paths))
