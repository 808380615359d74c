"""Sampling of a teacher: the probability-flow ODE with classifier-free guidance."""

from __future__ import annotations

import torch
from torch import Tensor

from countgen.miniature.training.generator import Conditioning, Generator


def solver(generator: Generator) -> object:
    """Return diffusers' DPM-Solver++ 2M with the betas that the generator was trained with."""
    from diffusers import DPMSolverMultistepScheduler

    config = generator.scheduler_config
    return DPMSolverMultistepScheduler(
        beta_start=config["beta_start"],
        beta_end=config["beta_end"],
        beta_schedule=config["beta_schedule"],
        prediction_type=config["prediction_type"],
        algorithm_type="dpmsolver++",
    )


@torch.no_grad()
def integrate(
    generator: Generator,
    noise: Tensor,
    tokens: Tensor,
    *,
    steps: int,
    guidance_scale: float,
    start: tuple[Tensor, int] | None = None,
) -> Tensor:
    """Sample latents, float32 (B, 4, 32, 32), by solving the ODE from noise with captions.

    Args:
        generator: multi-step teacher.
        noise: standard normal (B, 4, 32, 32).
        tokens: int16 (B, 2, 32), see `Generator.tokenize`.
        steps: number of solver steps, with one guided evaluation each.
        guidance_scale: scale of classifier-free guidance, against the empty caption.
        start: clean latents (B, 4, 32, 32) and a timestep: the ODE starts there, from these latents with the noise
            added, instead of from noise alone (Meng et al. 2022, SDEdit).
    """
    scheduler = solver(generator)
    if start is None:
        scheduler.set_timesteps(steps, device=noise.device)  # type: ignore[attr-defined]
        latents = noise.float()
    else:
        clean, first = start
        timesteps = [round(first * (steps - step) / steps) for step in range(steps)]
        scheduler.set_timesteps(timesteps=timesteps, device=noise.device)  # type: ignore[attr-defined]
        latents, _ = generator.add_noise(clean, noise.float(), torch.full((len(noise),), first, device=noise.device))
    scheduler.set_begin_index(0)  # type: ignore[attr-defined]
    empty = generator.tokenize([""]).to(noise.device).expand(len(noise), -1, -1)
    conditioning = Conditioning(*generator.encode(torch.cat([tokens, empty])))
    for timestep in scheduler.timesteps:  # type: ignore[attr-defined]
        both = torch.cat([latents, latents])
        conditional, unconditional = generator.predict(both, timestep.expand(len(both)), conditioning).chunk(2)
        predicted = unconditional + guidance_scale * (conditional - unconditional)
        latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]  # type: ignore[attr-defined]
    return latents
