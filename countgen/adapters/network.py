"""The network of a noise adapter: from latents, a count and a prompt to a displacement of the latents."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

ARCHITECTURE = "conv-film-1"
"""Recorded in files; a file of another architecture is refused."""

_CONDITION = 64
"""Dimension of the embedding of the count, and of that of the prompt."""
_DILATIONS = (1, 2, 4, 8, 2)
_GROUPS = 8


@dataclass(frozen=True)
class NetworkConfig:
    """What determines the shapes of a network's weights.

    Attributes:
        latent_shape: channels, height and width of a latent.
        counts: the smallest and the largest count that it is conditioned on.
        prompt_dim: dimension of the prompt vector, see `prompt_vector`; 0 for a network that does not read the prompt.
        sees_sample: whether it also reads the clean latents that the unmoved ones are denoised to, at the cost of one
            evaluation for each latent.
        channels: of the hidden layers, a multiple of 8.

    Raises:
        ValueError: a number outside its range.
    """

    latent_shape: tuple[int, int, int]
    counts: tuple[int, int]
    prompt_dim: int
    sees_sample: bool = False
    channels: int = 32

    def __post_init__(self) -> None:
        if len(self.latent_shape) != 3 or not all(1 <= size <= 1024 for size in self.latent_shape):
            raise ValueError(f"latent_shape must be three numbers from 1 to 1024, got {self.latent_shape}")
        if len(self.counts) != 2 or not 1 <= self.counts[0] <= self.counts[1] <= 100:
            raise ValueError(f"counts must be the smallest and the largest, from 1 to 100, got {self.counts}")
        if not 0 <= self.prompt_dim <= 16384:
            raise ValueError(f"prompt_dim must be from 0 to 16384, got {self.prompt_dim}")
        if self.channels % _GROUPS or not _GROUPS <= self.channels <= 256:
            raise ValueError(f"channels must be a multiple of {_GROUPS} from {_GROUPS} to 256, got {self.channels}")


class AdapterNetwork(nn.Module):
    """A residual convolutional network at the latents' resolution, modulated by the count and the prompt (FiLM).

    Dilations give it a receptive field of 73 latent cells, and coordinates as further inputs a place for each object.
    The last layer is initialised with zeros, so that an untrained network moves nothing. Each channel keeps its mean,
    which decides the colour of the background and not the number of objects.

    Source: FiLM, Perez et al. 2018 (arXiv 1709.07871).
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        latent_channels, channels = config.latent_shape[0], config.channels
        condition = _CONDITION * (2 if config.prompt_dim else 1)
        self.count = nn.Embedding(config.counts[1] - config.counts[0] + 1, _CONDITION)
        self.prompt = nn.Linear(config.prompt_dim, _CONDITION) if config.prompt_dim else None
        inputs = latent_channels * (2 if config.sees_sample else 1) + 4
        self.first = nn.Conv2d(inputs, channels, 3, padding=1)
        self.blocks = nn.ModuleList(_Block(channels, dilation, condition) for dilation in _DILATIONS)
        self.last = nn.Conv2d(channels, latent_channels, 3, padding=1, bias=False)  # `forward` takes the mean out
        nn.init.zeros_(self.last.weight)

    def forward(
        self, latents: Tensor, target_count: int, prompt_vector: Tensor | None = None, sample: Tensor | None = None
    ) -> Tensor:
        """Return the displacement, float32 (B, C, h, w).

        Args:
            latents: float32 (B, C, h, w).
            target_count: number of objects, within the config's counts.
            prompt_vector: float32 (1, prompt_dim), of the prompt of all latents; None where prompt_dim is 0.
            sample: float32 (B, C, h, w), clean latents; None without `sees_sample`.
        """
        condition = self.count(torch.tensor([target_count - self.config.counts[0]], device=latents.device))
        if self.prompt is not None:
            condition = torch.cat([condition, self.prompt(prompt_vector)], 1)
        read = latents if sample is None else torch.cat([latents, sample], 1)
        hidden = self.first(torch.cat([read, _coordinates(latents)], 1))
        for block in self.blocks:
            hidden = block(hidden, condition)
        displacement = self.last(hidden)
        return displacement - displacement.mean((2, 3), keepdim=True)


class _Block(nn.Module):
    """Two convolutions with a residual connection; the first also sees the mean over the image."""

    def __init__(self, channels: int, dilation: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.modulation = nn.Linear(condition, 2 * channels)
        self.dilated = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.mean = nn.Linear(channels, channels)
        self.out = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, 1)
        inner = nn.functional.silu(self.dilated(self.norm(hidden) * (1 + scale) + shift))
        inner = inner + self.mean(inner.mean((2, 3)))[:, :, None, None]
        return hidden + self.out(nn.functional.silu(inner))


def _coordinates(latents: Tensor) -> Tensor:
    """Return the vertical and the horizontal coordinate in [-1, 1] and their cosines, (B, 4, h, w)."""
    axes = (torch.linspace(-1, 1, size, device=latents.device) for size in latents.shape[-2:])
    vertical, horizontal = torch.meshgrid(*axes, indexing="ij")
    both = torch.stack([vertical, horizontal])
    return torch.cat([both, (math.pi * both).cos()]).expand(len(latents), -1, -1, -1)
