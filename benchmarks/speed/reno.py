"""A plain re-implementation of ReNO's optimisation loop, the anchor that speeds are compared with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from countgen.benchmarks.speed.models import BuiltModel


def reno_step(model: BuiltModel, latents: Tensor, loss_of: Callable[[Tensor], Tensor]) -> Callable[[], object]:
    """One iteration as ReNO runs it: prompt encoded again, gradient checkpointing, eager, full VAE, half precision.

    Switches gradient checkpointing on; `plain_again` switches it off.

    Args:
        model: with its text encoders.
        latents: float32 (1, C, h, w) leaf.
        loss_of: the reward of a batch of images, float32 (1,); ours here, so that the loops differ in nothing else.

    Source: Eyring et al. 2024 (ReNO): SGD lr 5, Nesterov 0.9, gradient norm clipped at 0.1, 0.01 times the prior.
    """
    pipeline = model.backbone.pipeline
    model.backbone.denoiser.enable_gradient_checkpointing()  # type: ignore[operator]
    pipeline.vae.enable_gradient_checkpointing()
    optimizer = torch.optim.SGD([latents], lr=5, momentum=0.9, nesterov=True)

    def step() -> None:
        images = model.backbone.render(latents, model.encode())
        norm = torch.linalg.vector_norm(latents)
        prior = 0.01 * (0.5 * norm**2 - (latents.numel() - 1) * torch.log(norm))
        total = loss_of(images).sum() + prior
        total.backward()
        torch.nn.utils.clip_grad_norm_([latents], 0.1)
        optimizer.step()
        optimizer.zero_grad()
        total.item()

    return step


def plain_again(model: BuiltModel) -> None:
    """Switch gradient checkpointing off."""
    model.backbone.denoiser.disable_gradient_checkpointing()  # type: ignore[operator]
    model.backbone.pipeline.vae.disable_gradient_checkpointing()
