"""Registry of backbones: presets by name, and model families by their file in `countgen/backbones/`."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from countgen import plugins
from countgen.backbones.base import Backbone
from countgen.backbones.model_files import digest, public_name
from countgen.backbones.preset import Preset
from countgen.plugins import check_name

_FOLDER = Path(__file__).parent


@cache
def _own() -> tuple[str, ...]:
    return tuple(path.stem for path in _FOLDER.glob("*.py") if "\nBACKBONE = " in path.read_text("utf-8"))


def families() -> tuple[str, ...]:
    """Return the sorted names of the model families, files and plug-ins; nothing is imported."""
    return tuple(sorted({*_own(), *plugins.names("backbones")}))


def module_of(family: str) -> Any:
    """Return a family's module, with BACKBONE, PIPELINE and PRESETS.

    Raises:
        PluginError: a plug-in that cannot be imported.
    """
    if family in _own():
        return importlib.import_module(f"countgen.backbones.{family}")
    return plugins.load("backbones", family)


def presets() -> dict[str, tuple[str, Preset]]:
    """Return the family and the preset of every preset name; a broken plug-in is left out with a warning."""
    known: dict[str, tuple[str, Preset]] = {}
    for family in families():
        try:
            known |= {name: (family, preset) for name, preset in module_of(family).PRESETS.items()}
        except plugins.PluginError as error:  # a broken one stops nobody else
            warnings.warn(str(error), stacklevel=2)
    return known


def find(name: str) -> tuple[str, Preset]:
    """Return the family and the preset of a name.

    Raises:
        ValueError: there is no such preset; the message lists similar and available names.
    """
    known = presets()
    check_name("backbone", name, sorted(known))
    return known[name]


def configured(name: str, *, repository: str | None = None, **changes: Any) -> Preset:
    """Return the preset that `load` uses for a name, another repository and changed fields.

    Another repository does not inherit the preset's variant and revision, and a local folder uses its own VAE. Explicit
    timesteps are kept only with the preset's own number of steps.

    Raises:
        ValueError: there is no such preset, field or scheduler, or a value is not possible.
    """
    preset = find(name)[1]
    check_fields(changes)
    if repository is not None:
        changes = {"config": preset.repository, "variant": None, "revision": None, **changes}
        if Path(repository).is_dir():
            changes.setdefault("vae", None)
    if changes.get("num_inference_steps", preset.num_inference_steps) != preset.num_inference_steps:
        changes.setdefault("timesteps", None)
    return replace(preset, repository=repository or preset.repository, **changes)


def check_fields(changes: Mapping[str, Any]) -> None:
    """Check fields of a preset by name, and the name of a scheduler.

    Raises:
        ValueError: there is no such field, or diffusers has no such scheduler; the message lists similar names.
    """
    for field in changes:
        check_name("option", field, sorted(field.name for field in fields(Preset)))
    if changes.get("scheduler") is not None:
        import diffusers  # takes seconds, and most changes do not need it

        check_name("scheduler", changes["scheduler"], [name for name in dir(diffusers) if name.endswith("Scheduler")])


def base_model(backbone: Backbone) -> str:
    """Return the name of the model that a token is trained on: PRESET, or PRESET:REPOSITORY for another repository.

    A local folder or file is named by its name and the first digits of a SHA-256 of its weights, without its path.
    """
    known, repository = presets(), backbone.preset.repository
    path = Path(repository)
    own = known[backbone.name][1].repository if backbone.name in known else None
    if own and path.resolve() == Path(own).resolve():  # OWNER/NAME on the hub compares like a path that does not exist
        return backbone.name
    digits = f"-{digest(path)[:8]}" if path.exists() else ""
    return f"{backbone.name}:{public_name(repository)}{digits}" if own else f"{backbone.name}{digits}"
