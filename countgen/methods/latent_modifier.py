"""Modules that give the initial noise from trainable weights: D2D's latent modifier network, or the noise itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

HIDDEN = 256
"""Width of the network; the source does not give its own."""


class DirectLatents(nn.Module):
    """Latents that are the weights themselves.

    Args:
        noise: float32 (B, C, h, w), the start.
    """

    def __init__(self, noise: Tensor) -> None:
        super().__init__()
        self.latents = nn.Parameter(noise.detach().clone())

    def forward(self) -> Tensor:
        """Return the latents (B, C, h, w)."""
        return self.latents


class LatentModifier(nn.Module):
    """A network of three layers for each latent, which starts as the identity: w * noise + (1 - w) * modified.

    Alignment with the identity, which the source trains for, is exact here: the layers compute a difference, and
    the last one starts at zero. Every latent has the same first weights, so that a batch gives what its latents give
    one by one.

    Args:
        noise: float32 (B, C, h, w), the start, and the network's input throughout.
        original_share: w, of the original noise in the output, at least 0 and below 1; at 0 the counts are best, but
            patches are left.

    Source: D2D (arXiv 2510.19278), w = 0.2.
    """

    def __init__(self, noise: Tensor, original_share: float = 0.2) -> None:
        super().__init__()
        self._modified_share = 1 - original_share
        self._shape = noise.shape
        self._noise = noise.detach().flatten(1)[:, None]
        batch, size = noise.shape[0], self._noise.shape[-1]
        generator = torch.Generator().manual_seed(0)

        def layer(inputs: int, outputs: int) -> nn.Parameter:
            weight = torch.randn(inputs, outputs, generator=generator) / inputs**0.5
            return nn.Parameter(weight.to(noise.device).expand(batch, -1, -1).clone())

        self.first = layer(size, HIDDEN)
        self.second = layer(HIDDEN, HIDDEN)
        self.last = nn.Parameter(noise.new_zeros(batch, HIDDEN, size))
        self.bias = nn.Parameter(noise.new_zeros(batch, 1, size))

    def forward(self) -> Tensor:
        """Return the latents (B, C, h, w)."""
        hidden = silu(self._noise @ self.first)
        hidden = silu(hidden @ self.second)
        # w * noise + (1 - w) * (noise + difference)
        latents: Tensor = self._noise + self._modified_share * (hidden @ self.last + self.bias)
        return latents.view(self._shape)
