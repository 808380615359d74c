"""Find a backbone by the name of a preset, or of its family's file in `countgen/backbones/`."""

from __future__ import annotations

import difflib
import hashlib
import importlib
from collections.abc import Collection
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from countgen.backbones.base import Backbone
from countgen.backbones.loading import SINGLE_FILE, check_scheduler
from countgen.backbones.preset import Preset

_FOLDER = Path(__file__).parent


def families() -> tuple[str, ...]:
    """The files of the folder that hold a family, sorted; nothing is imported."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.py") if "\nBACKBONE = " in path.read_text("utf-8")))


def presets() -> dict[str, tuple[str, Preset]]:
    """Every preset's name with its family and what it holds."""
    found: dict[str, tuple[str, Preset]] = {}
    for family in families():
        module = importlib.import_module(f"countgen.backbones.{family}")
        found |= {name: (family, preset) for name, preset in module.PRESETS.items()}
    return found


def find(name: str) -> tuple[str, Preset]:
    """Family and preset of a name.

    Raises:
        ValueError: no such preset; near and available names are listed.
    """
    known = presets()
    check_name("backbone", name, known)
    return known[name]


def configured(name: str, *, repository: str | None = None, **changes: Any) -> Preset:
    """The preset as `load` makes it of a name, another repository and changed fields.

    Another repository is a checkpoint of its own: variant and revision are not the preset's, and a local folder, which
    is whole, brings its own VAE. Explicit timesteps are those of the preset's own number of steps.

    Raises:
        ValueError: no such preset, field or scheduler, or a value that no picture can have.
    """
    preset = find(name)[1]
    for field in changes:
        check_name("option", field, {field.name for field in fields(Preset)})
    if repository is not None:
        if not repository:
            raise ValueError("the repository's name is empty; leave repository out for the preset's own")
        changes = {"config": preset.repository, "variant": None, "revision": None, **changes}
        if Path(repository).is_dir():
            changes.setdefault("vae", None)
    if changes.get("num_inference_steps", preset.num_inference_steps) != preset.num_inference_steps:
        changes.setdefault("timesteps", None)
    preset = replace(preset, repository=repository or preset.repository, **changes)
    if preset.scheduler is not None:
        check_scheduler(preset.scheduler)
    return preset


def base_model(backbone: Backbone) -> str:
    """What a token is learned on: the backbone's name, and PRESET:REPOSITORY where another was loaded in its place.

    A local folder or file goes by its name and the first digits of a SHA-256 of its weights, without the path to it.
    """
    known, repository = presets(), backbone.preset.repository
    path = Path(repository)
    digits = f"-{digest(path)[:8]}" if path.exists() else ""
    if backbone.name not in known:
        return f"{backbone.name}{digits}"
    if (
        path.resolve() == Path(known[backbone.name][1].repository).resolve()
    ):  # OWNER/NAME is like a path that is not there
        return backbone.name
    return f"{backbone.name}:{public_name(repository)}{digits}"


def digest(path: Path) -> str:
    """SHA-256 of the beginning and the size of every file of weights: all of it would take seconds."""
    found = hashlib.sha256()
    for file in sorted(path.rglob(f"*{SINGLE_FILE}")) if path.is_dir() else [path]:
        found.update(str(file.stat().st_size).encode())
        with file.open("rb") as opened:
            found.update(opened.read(2**20))
    return found.hexdigest()


def public_name(repository: str) -> str:
    """A repository's name without the user's folders."""
    return Path(repository).resolve().name if Path(repository).exists() else repository


def check_name(what: str, name: str, known: Collection[str]) -> None:
    """Refuse a name that is not known, with the nearest ones."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"unknown {what} {name!r}.{hint} Available: {', '.join(sorted(known))}")
