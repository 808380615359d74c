"""Gradient descent on the weights of D2D's latent modifier network, for one seed after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from countgen.methods.problem import Problem
from countgen.methods.refinement import RefinementSettings, refine_seeds
from countgen.methods.settings import setting
from countgen.methods.step import Budget, Step

HIDDEN = 256
"""Width of the network; the source does not give its own."""


@dataclass(frozen=True)
class LMNSettings(RefinementSettings):
    """Settings of the descent: D2D's sharpened prior, and a rate chosen on tuning seeds, see docs/results.md."""

    learning_rate: float = setting(1e-3, "of the optimizer, on the weights of the network", above=0)
    prior_power: float = setting(10.0, "exponent of the prior's density, 10 in D2D", at_least=0)
    original_share: float = setting(
        0.2,
        "fraction of the original noise in the output; at 0 counts are best and patches remain",
        at_least=0,
        below=1,
    )


def lmn(problem: Problem, seed: int, budget: Budget, settings: LMNSettings) -> Iterator[Step]:
    """Let a small network modify the noise of one seed after the other (D2D's latent modifier network).

    Raises:
        NonFiniteLossError: the loss is not finite; the message names the step.

    Source: D2D (arXiv 2510.19278).
    """
    start = partial(LatentModifier, original_share=settings.original_share)
    return refine_seeds(problem, seed, budget, settings, start)


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
