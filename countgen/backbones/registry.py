"""Find a backbone by the name of a preset, or of its family's file in `countgen/backbones/`."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from countgen.backbones.base import Backbone, Preset

_FOLDER = Path(__file__).parent
_NOT_FAMILIES = {"__init__", "base", "registry"}


def families() -> tuple[str, ...]:
    """The files of the folder that hold a family, sorted; nothing is imported."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.py") if path.stem not in _NOT_FAMILIES))


def presets() -> dict[str, tuple[str, Preset]]:
    """Every preset's name with its family and what it holds."""
    found: dict[str, tuple[str, Preset]] = {}
    for family in families():
        module = importlib.import_module(f"countgen.backbones.{family}")
        found |= {name: (family, preset) for name, preset in module.PRESETS.items()}
    return found


def load(
    name: str,
    *,
    repository: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    draft: bool = False,
    **changes: Any,
) -> Backbone:
    """Load a backbone from the hub's cache, the hub or a local folder, safetensors only.

    Args:
        name: a preset, for example "miniature" or "sdxl-turbo".
        repository: another hub id or local folder of the same family, for example a fine-tune.
        device: where it runs.
        dtype: float32 on a CPU, float16 elsewhere by default.
        draft: also load the preset's tiny decoder, for fast looks while optimising.
        **changes: fields of `Preset` to replace, for example `num_inference_steps=4` or `revision=`.

    Raises:
        ValueError: no such preset, or a size that the latents cannot have; near and available names are listed.
        OSError: the repository is neither in the cache nor reachable (from diffusers).
    """
    known = presets()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"unknown backbone {name!r}.{hint} Available: {', '.join(sorted(known))}")
    family, preset = known[name]
    if repository is not None:
        changes["repository"] = repository
    preset = replace(preset, **changes)
    module = importlib.import_module(f"countgen.backbones.{family}")
    device = torch.device(device)
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.float16)
    pipeline = load_pipeline(module.PIPELINE, preset, dtype)
    tiny_vae = load_tiny_vae(preset, dtype, device) if draft else None
    backbone: Backbone = module.BACKBONE(pipeline.to(device), preset, name, tiny_vae)
    return backbone


def load_tiny_vae(preset: Preset, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
    """The decoder for drafts.

    Raises:
        ValueError: the preset names none.
    """
    import diffusers

    if preset.tiny_vae is None:
        raise ValueError(
            f"{preset.repository} has no tiny decoder; give tiny_vae= an AutoencoderTiny, or leave draft out"
        )
    tiny_vae: torch.nn.Module = diffusers.AutoencoderTiny.from_pretrained(
        preset.tiny_vae, dtype=dtype, use_safetensors=True
    )
    return tiny_vae.to(device)


def load_pipeline(class_name: str, preset: Preset, dtype: torch.dtype) -> Any:
    """The stock diffusers pipeline of a preset, with its scheduler and VAE replaced where the preset says so."""
    import diffusers

    parts: dict[str, Any] = {}
    if preset.vae is not None and dtype == torch.float16:
        parts["vae"] = diffusers.AutoencoderKL.from_pretrained(preset.vae, dtype=dtype, use_safetensors=True)
    pipeline = getattr(diffusers, class_name).from_pretrained(
        preset.repository,
        revision=preset.revision,
        variant=preset.variant,
        dtype=dtype,
        use_safetensors=True,
        **parts,
    )
    if preset.scheduler is not None:
        scheduler = getattr(diffusers, preset.scheduler)
        pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, **dict(preset.scheduler_options))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
