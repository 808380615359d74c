"""Noise levels and timestep shift of the flow-matching families, as their stock pipelines compute them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def set_linear_timesteps(scheduler: Any, num_inference_steps: int, mu: float | None) -> None:
    """Set evenly spaced noise levels from 1 down to 1 / steps, unless the scheduler computes its own, shifted by `mu`.

    Args:
        scheduler: of diffusers, for flow matching.
        num_inference_steps: number of noise levels.
        mu: see `shift`.
    """
    sigmas = [1 - step / num_inference_steps for step in range(num_inference_steps)]
    own = scheduler.config.get("use_flow_sigmas")
    scheduler.set_timesteps(num_inference_steps, sigmas=None if own else sigmas, mu=mu)


def shift(config: Mapping[str, Any], num_tokens: int, largest: float) -> float | None:
    """Return the timestep shift `mu`, linear in the number of image tokens: larger images get more noise.

    Args:
        config: configuration of the scheduler; the result is None unless it shifts dynamically.
        num_tokens: number of image tokens of the transformer.
        largest: shift at the largest number of tokens, if the config does not state it.

    Source: Esser et al. 2024 (Stable Diffusion 3), as in diffusers' `calculate_shift`.
    """
    if not config.get("use_dynamic_shifting"):
        return None
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    least, most = config.get("base_shift", 0.5), config.get("max_shift", largest)
    slope = (most - least) / (many - few)
    return float(num_tokens * slope + least - slope * few)
