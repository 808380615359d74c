"""What a loaded pipeline may carry that gradients cannot pass; docs/models.md has the table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

_WHOLE = "call pipe.remove_all_hooks() and pipe.to(device)"


def check_features(pipeline: Any) -> None:
    """Raise for a pipeline that is offloaded, quantised, spread over devices, or asks for more than a prompt.

    Raises:
        ValueError: the part, the feature, and the call that takes it away.
    """
    for reason in _reasons(pipeline):
        raise ValueError(f"the pipeline {reason}")


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module that `torch.compile` wrapped, or itself."""
    inner = getattr(module, "_orig_mod", module)
    return inner if isinstance(inner, nn.Module) else module


def _reasons(pipeline: Any) -> Iterator[str]:
    modules = {name: unwrapped(part) for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    for part in (pipeline, *modules.values()):
        placed = getattr(part, "hf_device_map", None)  # a mapping, or the device if there is only one
        if isinstance(placed, dict) and len({*map(str, placed.values())}) > 1:
            yield (
                f"is spread over devices (device_map of its {type(part).__name__}): call pipe.reset_device_map() and "
                "pipe.to(device), or load it without device_map"
            )
    if not any(name.startswith("text_encoder") for name in modules):
        yield "has no text encoder: load it with one, prompts are read here"
    for name, module in modules.items():
        yield from _of_module(name, module)
    denoiser: Any = modules["unet"] if "unet" in modules else modules["transformer"]
    config, latent_channels = denoiser.config, pipeline.vae.config.get("latent_channels")
    if getattr(denoiser, "encoder_hid_proj", None) is not None:
        yield "has an IP-adapter, which needs an image with each prompt: call pipe.unload_ip_adapter()"
    if config.get("time_cond_proj_dim") is not None:
        yield "has a U-Net that takes its guidance as an input (time_cond_proj_dim), which is not given here"
    packing = 4 if type(pipeline).__name__ in ("FluxPipeline", "Flux2KleinPipeline") else 1
    if config.in_channels != packing * latent_channels:
        yield (
            f"has a denoiser of {config.in_channels} input channels for latents of {latent_channels}: one for "
            "inpainting or editing, which needs an image"
        )
    devices = {str(next(module.parameters()).device) for module in modules.values()}
    if len(devices) > 1:
        yield f"is on several devices ({', '.join(sorted(devices))}): call pipe.to(device)"


def _of_module(name: str, module: nn.Module) -> Iterator[str]:
    for inside in module.modules():
        hook = getattr(inside, "_hf_hook", None)
        hooks = getattr(hook, "hooks", (hook,))  # a sequential hook holds several
        if any(type(each).__name__ == "CpuOffload" or getattr(each, "offload", False) for each in hooks):
            yield (
                f"has its {name} under CPU offload, which takes weights away before the backward pass: {_WHOLE}, and "
                "give memory='low' where that does not fit"
            )
        registered = getattr(getattr(inside, "_diffusers_hook", None), "hooks", {})
        if registered:
            kind = ", ".join(key.replace("_", " ") for key in registered)
            yield (
                f"has hooks of diffusers on its {name} ({kind}), which change or move weights and activations while it "
                "runs: load it without"
            )
    how = _quantised(module)
    if how is not None:
        yield (
            f"has a quantised {name} ({how}), which gradients do not pass here: load it in float16, bfloat16 or float32"
        )
    if any(parameter.is_meta for parameter in module.parameters()):
        yield f"has a {name} without weights (device meta): load them, {_WHOLE}"


def _quantised(module: nn.Module) -> str | None:
    """Return how a module is quantised, or None if it is not."""
    quantizer = getattr(module, "hf_quantizer", None)
    if quantizer is not None:
        return type(quantizer).__name__
    for inside in module.modules():
        if "quantized" in type(inside).__module__:
            return type(inside).__name__
    for parameter in module.parameters():
        if type(parameter) not in (nn.Parameter, torch.Tensor) and "quant" in type(parameter).__module__.lower():
            return type(parameter).__name__
        if not parameter.is_floating_point() or parameter.itemsize < 2:
            return str(parameter.dtype).removeprefix("torch.")
    return None
