"""Three loops that optimise the same start latents on the same model, critics and objective."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from countgen.backbones import Backbone
from countgen.critics import Critic
from countgen.methods.objective import CONFIRMATION_VIEWS, Objective
from countgen.methods.problem import Problem
from countgen.methods.refinement import RefinementSettings, refine
from countgen.methods.step import COST_WITH_GRADIENT, Budget
from countgen.prompts import Target

PROMPT, SEED = "a photo of apples", 0
TARGETS = (Target("apple", 100),)
"""More objects than fit into an image, so that no candidate ends a run."""
SETTINGS = RefinementSettings()


@dataclass(frozen=True)
class Task:
    """The models of a comparison."""

    backbone: Backbone
    critics: tuple[Critic, ...]


Loop = Callable[[Task], Generator[Tensor]]
"""Function that yields, endlessly, the latents (C, h, w) of each candidate right after its evaluation.

One iteration, from one candidate to the next, is a backward pass, an optimizer step and a forward pass.
"""


def countgen_loop(task: Task, settings: RefinementSettings = SETTINGS) -> Generator[Tensor]:
    """Run `refine`, as countgen's methods do, with CUDA graphs if they can be captured."""
    with torch.no_grad():
        embeds = task.backbone.encode_prompt(PROMPT)
    problem = Problem(task.backbone, task.critics, TARGETS, embeds)
    latents = task.backbone.initial_latents([SEED])
    endless = replace(settings, num_optimization_steps=sys.maxsize)
    for step in refine(problem, latents, [SEED], Budget(), endless):
        yield step.latents


def bare_loop(task: Task) -> Generator[Tensor]:
    """Run the stock pipeline with gradient, on a prompt that is encoded once, with our optimizer in plain torch."""
    with torch.no_grad():
        embeds = task.backbone.encode_prompt(PROMPT)
    named = {name.replace("attention", "prompt_attention"): value for name, value in vars(embeds).items()}
    conditions = {name: value for name, value in named.items() if value is not None}
    latents = task.backbone.initial_latents([SEED]).requires_grad_(True)
    return _descend(task, latents, torch.optim.Adam([latents], lr=0.08), 10.0, conditions)


def reno_loop(task: Task) -> Generator[Tensor]:
    """Run the stock pipeline as ReNO does: gradient checkpointing, and the prompt encoded in every iteration.

    Source: Eyring et al. 2024 (ReNO): SGD with Nesterov momentum, gradient norm clipped at 0.1.
    """
    networks: list[Any] = [task.backbone.denoiser, task.backbone.pipeline.vae]
    latents = task.backbone.initial_latents([SEED]).requires_grad_(True)
    optimizer = torch.optim.SGD([latents], lr=5.0, momentum=0.9, nesterov=True)
    try:
        for network in networks:
            network.enable_gradient_checkpointing()
        yield from _descend(task, latents, optimizer, 0.1, {"prompt": PROMPT})
    finally:
        for network in networks:
            network.disable_gradient_checkpointing()


LOOPS: dict[str, tuple[Loop, int]] = {
    "countgen": (countgen_loop, COST_WITH_GRADIENT),
    "bare diffusers loop": (bare_loop, COST_WITH_GRADIENT),
    "ReNO's loop": (reno_loop, COST_WITH_GRADIENT + 1),
}
"""Each with its NFE per iteration: a backward pass counts as two forward passes, and checkpointing adds one."""


def _descend(
    task: Task, latents: Tensor, optimizer: torch.optim.Optimizer, max_grad_norm: float, conditions: dict[str, Any]
) -> Generator[Tensor]:
    """Minimise the count loss and ReNO's prior in plain torch.

    Args:
        task: the models.
        latents: leaf, float32 (1, C, h, w).
        optimizer: of the latents.
        max_grad_norm: the gradient is scaled down to this norm.
        conditions: arguments of the stock pipeline: the prompt, or its embeddings.
    """
    objective = Objective(task.critics, TARGETS, CONFIRMATION_VIEWS)
    task.backbone.pipeline.set_progress_bar_config(disable=True)
    while True:
        loss = objective.evaluate(_stock_images(task.backbone, latents, conditions)).loss.sum()
        loss.item()  # read in every iteration, as a loop that reports its progress does
        yield latents.detach()[0].clone()
        norm = torch.linalg.vector_norm(latents)
        prior = 0.01 * (norm**2 / 2 - (latents.numel() - 1) * norm.log())
        optimizer.zero_grad()
        (loss + prior).backward()
        clip_grad_norm_([latents], max_grad_norm)
        optimizer.step()


def _stock_images(backbone: Backbone, latents: Tensor, conditions: dict[str, Any]) -> Tensor:
    """Return the stock pipeline's image, RGB float32 (1, 3, H, W), with a gradient that ignores the clamp to [0, 1]."""
    pipeline = backbone.pipeline
    pixart = {"use_resolution_binning": False, "clean_caption": False} if backbone.family == "pixart" else {}
    timesteps = backbone.preset.timesteps
    sample = inspect.unwrap(type(pipeline).__call__)(  # without the decorator that disables gradients
        pipeline,
        latents=latents.to(backbone.dtype),
        num_inference_steps=backbone.num_inference_steps,
        timesteps=None if timesteps is None else list(timesteps),
        guidance_scale=backbone.guidance_scale,
        height=backbone.height,
        width=backbone.width,
        output_type="latent",
        return_dict=False,
        **conditions,
        **pixart,
    )[0]
    return backbone.decode(sample)
