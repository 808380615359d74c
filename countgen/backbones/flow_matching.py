"""Noise levels and timestep shift of the flow-matching families, as their stock pipelines compute them."""

from __future__ import annotations

from countgen.backbones.base import Backbone


def set_linear_timesteps(backbone: Backbone, mu: float | None) -> None:
    """Set evenly spaced noise levels from 1 to 1 / steps, unless the scheduler computes its own; `mu` shifts them."""
    scheduler, steps = backbone.pipeline.scheduler, backbone.num_inference_steps
    sigmas = None if scheduler.config.get("use_flow_sigmas") else [1 - step / steps for step in range(steps)]
    scheduler.set_timesteps(steps, sigmas=sigmas, mu=mu)


def num_tokens(backbone: Backbone) -> int:
    """Return the number of image tokens of the transformer."""
    return backbone.height * backbone.width // backbone.size_step**2


def shift(backbone: Backbone, largest: float) -> float | None:
    """Return the timestep shift `mu`, linear in the number of image tokens: larger images get more noise.

    Args:
        backbone: the result is None unless its scheduler shifts dynamically.
        largest: shift at the largest number of tokens, if the scheduler's config does not state it.

    Source: Esser et al. 2024 (Stable Diffusion 3), as in diffusers' `calculate_shift`.
    """
    config = backbone.pipeline.scheduler.config
    if not config.get("use_dynamic_shifting"):
        return None
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    least, most = config.get("base_shift", 0.5), config.get("max_shift", largest)
    slope = (most - least) / (many - few)
    return float(num_tokens(backbone) * slope + least - slope * few)
