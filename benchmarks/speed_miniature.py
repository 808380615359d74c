"""On a CPU: the miniature's optimisation step against the same arithmetic as a bare torch loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import torch

import countgen
from countgen.models import Models
from countgen.noise import NoiseSettings, clip, latent_prior, refine
from countgen.prompts import Target
from countgen.step import Budget
from countgen.verdict import CONFIRMING, examine
from critics.losses import LOSSES

if TYPE_CHECKING:
    from benchmarks.speed import Bench

PROMPT = "a photo of apples"
TARGETS = (Target("apple", 100),)
"""More than the picture can hold, so that no step ends the run."""


def compare(bench: Bench, steps: int = 12) -> float:
    """Time both loops in turns, and add their rows.

    Returns:
        Our step's time over the bare loop's, a median of pairs.
    """
    from benchmarks.speed import Row

    models = countgen.load("miniature", device=bench.device)
    ours, bare = _refine_steps(models), _bare_steps(models)
    next(ours)
    bare()
    pairs = []
    for _ in range(steps):
        started = perf_counter()
        next(ours)
        between = perf_counter()
        bare()
        pairs.append((between - started, perf_counter() - between))
    ratio = median(a / b for a, b in pairs)
    bench.add(Row("miniature", "bare torch loop", milliseconds=1e3 * median(b for _, b in pairs)))
    note = f"{ratio:.3f} times the bare loop, median of {steps} pairs"
    bench.add(Row("miniature", "refine", milliseconds=1e3 * median(a for a, _ in pairs), note=note))
    return ratio


def _refine_steps(models: Models) -> Iterator[object]:
    with torch.no_grad():
        embeds = models.backbone.encode_prompt(PROMPT)
    settings = NoiseSettings(num_optimization_steps=10**6)
    latents = models.backbone.initial_latents([0])
    return refine(models.backbone, models.critics, embeds, TARGETS, latents, [0], Budget(), settings)


def _bare_steps(models: Models) -> Callable[[], None]:
    """U-Net, one-step formula, decoder, detector, loss, backward and Adam, with nothing around them."""
    backbone, pipeline = models.backbone, models.backbone.pipeline
    with torch.no_grad():
        embeds = backbone.encode_prompt(PROMPT)
    pipeline.scheduler.set_timesteps(1)
    sigma = pipeline.scheduler.sigmas[0]
    timestep = pipeline.scheduler.timesteps[0]
    start = pipeline.scheduler.init_noise_sigma
    latents = backbone.initial_latents([0]).requires_grad_(True)
    optimizer = torch.optim.Adam([latents], lr=0.08)
    side = float(backbone.height)
    added = {
        "text_embeds": embeds.pooled_prompt_embeds,
        "time_ids": torch.tensor([[side, side, 0, 0, side, side]], device=backbone.device),
    }

    def step() -> None:
        noisy = latents * start
        v = pipeline.unet(
            noisy / (sigma**2 + 1) ** 0.5,
            timestep,
            encoder_hidden_states=embeds.prompt_embeds,
            added_cond_kwargs=added,
            return_dict=False,
        )[0]
        clean = v * (-sigma / (sigma**2 + 1) ** 0.5) + noisy / (sigma**2 + 1)
        images = pipeline.vae.decode(clean / pipeline.vae.config.scaling_factor, return_dict=False)[0] / 2 + 0.5
        loss = examine(images, TARGETS, models.critics, CONFIRMING, LOSSES["margin"]).loss
        optimizer.zero_grad()
        (loss + 0.01 * latent_prior(latents)).sum().backward()
        clip(latents, 10.0)
        optimizer.step()

    return step
