"""Export of trained weights as a stock diffusers pipeline folder with float16 safetensors."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from countgen.miniature.training.generator import Generator, read_pipeline
from countgen.miniature.training.ode import solver


def _half(module: nn.Module) -> nn.Module:
    """Return a contiguous float16 copy on the CPU, because safetensors refuses other memory formats."""
    copied = copy.deepcopy(module).cpu().half().eval()
    for tensor in (*copied.parameters(), *copied.buffers()):
        tensor.data = tensor.data.contiguous()
    return copied


def export(generator: Generator, vae: nn.Module, folder: Path, *, one_step: bool) -> None:
    """Write a folder that the family's stock pipeline class loads with `use_safetensors=True`.

    Args:
        generator: generator with the weights, usually the moving average.
        vae: autoencoder of the generator's latents.
        folder: folder to create or overwrite.
        one_step: keep the template's one-step scheduler, for a student; otherwise, for a teacher, use DPM-Solver++.
    """
    pipeline: Any = read_pipeline(generator.family.folder)
    components = dict(pipeline.components)
    denoiser = "unet" if generator.family.name == "unet" else "transformer"
    components[denoiser] = _half(generator.denoiser)
    for name, encoder in zip(("text_encoder", "text_encoder_2"), generator.text_encoders, strict=False):
        components[name] = _half(encoder)
    components["vae"] = _half(vae)
    if not one_step:
        components["scheduler"] = solver(generator)
    if denoiser == "unet":
        components["force_zeros_for_empty_prompt"] = False
    vae_folder = folder / "vae"
    for path in (vae_folder, *vae_folder.glob("*")):
        if path.is_symlink():  # the shipped PixArt folder links to the VAE of another pipeline
            path.unlink()
    type(pipeline)(**components).save_pretrained(folder, safe_serialization=True)
    _forget_origin(folder)


def _forget_origin(folder: Path) -> None:
    """Remove the paths of the loaded components that the libraries write into their configs."""
    for path in folder.rglob("*.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(config, dict) and config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def export_vae(vae: Any, scaling_factor: float, folder: Path) -> None:
    """Write an autoencoder with its scaling factor as a diffusers component folder."""
    copied: Any = _half(vae)
    copied.register_to_config(scaling_factor=scaling_factor)
    copied.save_pretrained(folder, safe_serialization=True)
    _forget_origin(folder)


def place(module: nn.Module, device: str) -> nn.Module:
    """Move a network to its device, on CUDA in channels-last memory format, which is faster for convolutions."""
    if device.startswith("cuda"):
        module = module.to(memory_format=torch.channels_last)
    return module.to(device)
