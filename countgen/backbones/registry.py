"""Registry of backbones: presets by name, and model families by their file in `countgen/backbones/`."""

from __future__ import annotations

import difflib
import hashlib
import importlib
from collections.abc import Collection
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from countgen.backbones.base import MEMORY, Backbone
from countgen.backbones.loading import SINGLE_FILE, check_scheduler, load_pipeline, load_tiny_vae
from countgen.backbones.memory_check import check_weights, free_memory
from countgen.backbones.preset import Preset

_FOLDER = Path(__file__).parent


def families() -> tuple[str, ...]:
    """Return the sorted file names (without suffix) of the model families; nothing is imported."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.py") if "\nBACKBONE = " in path.read_text("utf-8")))


def presets() -> dict[str, tuple[str, Preset]]:
    """Return the family and the preset of every preset name."""
    found: dict[str, tuple[str, Preset]] = {}
    for family in families():
        module = importlib.import_module(f"countgen.backbones.{family}")
        found |= {name: (family, preset) for name, preset in module.PRESETS.items()}
    return found


def find(name: str) -> tuple[str, Preset]:
    """Return the family and the preset of a name.

    Raises:
        ValueError: there is no such preset; the message lists similar and available names.
    """
    known = presets()
    _check_name("backbone", name, known)
    return known[name]


def configured(name: str, *, repository: str | None = None, **changes: Any) -> Preset:
    """Return the preset that `load` uses for a name, another repository and changed fields.

    Another repository does not inherit the preset's variant and revision, and a local folder uses its own VAE. Explicit
    timesteps are kept only with the preset's own number of steps.

    Raises:
        ValueError: there is no such preset, field or scheduler, or a value is not possible.
    """
    preset = find(name)[1]
    for field in changes:
        _check_name("option", field, {field.name for field in fields(Preset)})
    if repository is not None:
        if not repository:
            raise ValueError("the repository is empty; give a repository, or leave it out to use the preset's")
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
    """Return the name of the model that a token is trained on: PRESET, or PRESET:REPOSITORY for another repository.

    A local folder or file is named by its name and the first digits of a SHA-256 of its weights, without its path.
    """
    known, repository = presets(), backbone.preset.repository
    own = known[backbone.name][1].repository if backbone.name in known else repository
    path = Path(repository)
    if path.resolve() == Path(own).resolve():  # OWNER/NAME on the hub compares like a path that does not exist
        return backbone.name
    digits = f"-{_digest(path)[:8]}" if path.exists() else ""
    return f"{backbone.name}:{public_name(repository)}{digits}"


def _digest(path: Path) -> str:
    """Return a SHA-256 of the size and the beginning of every weight file; hashing whole files would take seconds."""
    found = hashlib.sha256()
    for file in sorted(path.rglob(f"*{SINGLE_FILE}")) if path.is_dir() else [path]:
        found.update(str(file.stat().st_size).encode())
        with file.open("rb") as opened:
            found.update(opened.read(2**20))
    return found.hexdigest()


def public_name(repository: str) -> str:
    """Return a repository's name without the path of a local folder or file."""
    return Path(repository).resolve().name if Path(repository).exists() else repository


def _check_name(what: str, name: str, known: Collection[str]) -> None:
    """Raise a ValueError that lists similar and available names, if a name is unknown."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"unknown {what} {name!r}.{hint} Available: {', '.join(sorted(known))}")


def load(
    name: str,
    *,
    repository: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    draft: bool = False,
    memory: str = "fast",
    download: bool = True,
    **changes: Any,
) -> Backbone:
    """Load a backbone, safetensors only, from the hub's cache, the hub, a local folder or a single file.

    Args:
        name: a preset, for example "miniature" or "sdxl-turbo".
        repository: another hub id, local folder or `.safetensors` file of the same family, for example a fine-tune;
            its variant and revision are the default ones unless they are given.
        device: device of the backbone.
        dtype: dtype of the weights; by default float32 on a CPU, and the preset's on other devices.
        draft: also load the preset's tiny decoder, for fast drafts during optimisation.
        memory: "fast" or "low"; "low" recomputes activations in the backward pass instead of keeping them, and keeps
            the text encoders on the CPU while they are not used.
        download: fetch from the hub what its cache does not hold; otherwise a missing file is an OSError.
        **changes: fields of `Preset` to replace, for example `num_inference_steps=4` or `revision=`.

    Raises:
        ValueError: there is no such preset, field, scheduler or `memory`, the steps or the size are not possible, or
            the repository is a single file of a family that diffusers does not read from one.
        OSError: the repository is neither in the cache nor reachable (from diffusers).
    """
    if memory not in MEMORY:
        raise ValueError(f"unknown memory {memory!r}; available: {', '.join(MEMORY)}")
    preset = configured(name, repository=repository, **changes)
    module = importlib.import_module(f"countgen.backbones.{find(name)[0]}")
    device = torch.device(device)
    dtype = dtype or (torch.float32 if device.type == "cpu" else preset.dtype)
    pipeline = load_pipeline(module.PIPELINE, preset, dtype, download=download)
    tiny_vae = load_tiny_vae(preset, dtype, download=download) if draft else None
    backbone: Backbone = module.BACKBONE(pipeline, preset, name, tiny_vae)
    if memory == "low":
        backbone.save_memory()
    check_weights(backbone, free_memory(device))
    backbone.move_to(device)
    return backbone
