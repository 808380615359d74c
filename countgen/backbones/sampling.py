"""How a checkpoint without a preset is sampled: steps, guidance and size, from its configs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from countgen.backbones.preset import Preset

FEW_STEPS = 4
_FEW_STEP_NAME = re.compile(r"turbo|lightning|lcm|hyper|schnell|dmd", re.IGNORECASE)
_FEW_STEP_SCHEDULERS = ("LCMScheduler", "TCDScheduler")


def sampling(
    class_name: str, configs: Mapping[str, Mapping[str, Any]], known_as: Sequence[str], presets: Mapping[str, Preset]
) -> tuple[dict[str, Any], str]:
    """Return steps, guidance and size as fields of `Preset`, and where they come from.

    A preset of the same repository comes first, then what the scheduler or the name says of few steps, then the stock
    pipeline's own defaults.

    Args:
        class_name: of a diffusers pipeline.
        configs: of the "pipeline", the "denoiser", the "vae" and the "scheduler".
        known_as: names of the repository.
        presets: of the family; empty for classes without one, whose own defaults are taken.
    """
    values: dict[str, Any] = dict.fromkeys(("height", "width"), _side(configs))
    few = _few_steps(class_name, configs, known_as) if presets else None
    for name, preset in presets.items():
        own = preset.repository in known_as and preset.denoiser is None
        if own and (few is None or preset.num_inference_steps <= FEW_STEPS):
            same = ("num_inference_steps", "guidance_scale", "height", "width", "timesteps")
            return {field: getattr(preset, field) for field in same}, f"as the preset {name} has them"
    if few is not None:
        return {"num_inference_steps": FEW_STEPS, "guidance_scale": 0.0, **values}, few
    import diffusers

    stock = inspect.signature(getattr(diffusers, class_name).__call__).parameters
    usual = {"num_inference_steps": 50, "guidance_scale": 0.0, **({} if presets else values)}
    for name, otherwise in usual.items():  # where a pipeline has none, or finds it out by itself
        values[name] = (stock[name].default if name in stock else None) or otherwise
    return values, f"the defaults of {class_name}"


def _few_steps(class_name: str, configs: Mapping[str, Mapping[str, Any]], known_as: Sequence[str]) -> str | None:
    """Say why a checkpoint is made for few steps without guidance; None where nothing says so."""
    if class_name == "SanaSprintPipeline":  # its stock defaults are for few steps
        return None
    scheduler = configs.get("scheduler", {})
    kind = str(scheduler.get("_class_name"))
    if kind in _FEW_STEP_SCHEDULERS:
        return f"few steps, because its scheduler is {kind}"
    trailing = scheduler.get("timestep_spacing") == "trailing" and not scheduler.get("rescale_betas_zero_snr")
    if kind.startswith("Euler") and trailing:
        return f"few steps, because its scheduler, {kind}, has trailing timesteps"
    if configs["pipeline"].get("is_distilled"):
        return "few steps, because it is a distilled model (is_distilled)"
    if class_name == "FluxPipeline" and not configs["denoiser"].get("guidance_embeds"):
        return "few steps, because its transformer takes no guidance, as FLUX.1-schnell"
    if any(_FEW_STEP_NAME.search(name.rsplit("/", 1)[-1]) for name in known_as):
        return "few steps, as its name says"
    return None


def _side(configs: Mapping[str, Mapping[str, Any]]) -> int:
    """Return the height and width that the stock pipeline has by default."""
    vae = configs.get("vae", {})
    blocks = vae.get("block_out_channels") or vae.get("encoder_block_out_channels") or (0,) * 4
    size = configs.get("denoiser", {}).get("sample_size") or 128
    return int(max(size) if isinstance(size, list | tuple) else size) * 2 ** (len(blocks) - 1)
