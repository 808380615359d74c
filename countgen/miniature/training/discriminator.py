"""Discriminator of the student's adversarial training: small heads on a frozen teacher's features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from countgen.miniature.training.generator import LATENT_SHAPE, Generator

WIDTH = 64
NOISE_LEVELS = (20, 600)
"""The range of timesteps to which latents are noised; low ones leave details in the features, high ones only layout."""


def _head(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, WIDTH, 3, padding=1),
        nn.GroupNorm(8, WIDTH),
        nn.SiLU(),
        nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
        nn.GroupNorm(8, WIDTH),
        nn.SiLU(),
        nn.Conv2d(WIDTH, 1, 1),
    )


class Discriminator(nn.Module):
    """A discriminator with one head per feature map, and one logit per position.

    It is conditioned on the caption through the teacher's cross-attention.

    Source: Sauer et al. 2024 (latent adversarial diffusion distillation).
    """

    def __init__(self, teacher: Generator) -> None:
        super().__init__()
        device = teacher.alphas_cumprod.device
        latents = torch.zeros(1, *LATENT_SHAPE, device=device)
        with torch.no_grad():
            found = self.features(teacher, latents, teacher.tokenize([""]).to(device))
        self.heads = nn.ModuleList([_head(feature.shape[1]) for feature in found])

    def features(self, teacher: Generator, latents: Tensor, tokens: Tensor) -> list[Tensor]:
        """Return the teacher's features of latents noised to random timesteps, with gradient to the latents."""
        with torch.no_grad():
            conditioning = teacher.encode(tokens)
        timesteps = torch.randint(*NOISE_LEVELS, (len(latents),), device=latents.device)
        noised, _ = teacher.add_noise(latents, torch.randn_like(latents), timesteps)
        return teacher.features(noised, timesteps, conditioning)

    def score(self, features: Sequence[Tensor]) -> Tensor:
        """Return the mean logit, a scalar; a positive one means real."""
        logits = [head(feature).float().mean() for head, feature in zip(self.heads, features, strict=True)]
        return torch.stack(logits).mean()

    def hinge(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """Return the hinge loss of the discriminator (Lim and Ye 2017), a scalar."""
        losses = [
            (1 - head(a).float()).relu().mean() + (1 + head(b).float()).relu().mean()
            for head, a, b in zip(self.heads, real, fake, strict=True)
        ]
        return torch.stack(losses).mean()
