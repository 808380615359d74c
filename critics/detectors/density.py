"""A density map as a critic: it adds up how much of an object is where, so high counts do not saturate it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from critics.base import Assessment, Critic, to_batch
from critics.density import DensityCounter, build
from critics.losses import CountLoss, density
from critics.weights import rebuild

TRAINED_SIZE = 128
LARGEST_SIZE = 192
"""Images up to this many pixels are seen at their own size; larger ones are stretched to `TRAINED_SIZE`."""
_COARSEST_STRIDE = 16


def load(*, weights: str | Path, device: torch.device | str = "cpu") -> DensityCritic:
    """Build the critic from a safetensors file that names its objects, see `critics.weights`.

    Raises:
        ValueError: no such file, or the weights of another architecture.
    """
    counter, object_names, _ = rebuild(weights, build)
    return DensityCritic(counter.to(device), object_names)


class DensityCritic(Critic):
    """Counts by the sum of a class's density map; the hard count is that sum, rounded.

    There are no candidates: whichever loss is asked for, it is `critics.losses.density`.
    """

    # In objects: a sum nearer to N than this is trusted, and a rounding error away from it the count is wrong.
    margin = 0.3

    def __init__(self, counter: DensityCounter, object_names: Sequence[str]) -> None:
        self.counter: Any = counter.eval().requires_grad_(False)
        self.object_names = tuple(object_names)
        self.name = "density"

    def maps(self, images: Tensor, object_names: Sequence[str], *, others: bool = False) -> Tensor:
        """Density maps (B, T, h, w) of the objects, and of all other objects together if asked; with gradient."""
        columns = [self.column(name) for name in object_names]
        images = to_batch(images)
        size = seen_size(*images.shape[-2:])
        if size != tuple(images.shape[-2:]):
            images = interpolate(images, size=size, mode="bilinear", align_corners=False)
        found = self.counter(images)
        if found.dtype != torch.float64:
            found = found.float()
        if not others:
            return found[:, columns]
        rest = [column for column in range(found.shape[1]) if column not in columns]
        if not rest:
            raise ValueError(f"{self.name} knows no objects besides those asked for")
        return torch.cat([found[:, columns], found[:, rest].sum(1, keepdim=True)], 1)

    def assess(
        self, images: Tensor, target_counts: Mapping[str, int], loss: CountLoss, *, others: bool = False
    ) -> Assessment:
        """See `Critic.assess`; `loss` is not read."""
        sums = self.maps(images, list(target_counts), others=others).sum((2, 3))
        wanted = [*target_counts.values(), *([0] if others else [])]
        losses = torch.stack([density(total, n) for total, n in zip(sums.unbind(1), wanted, strict=True)], 1)
        named = sums[:, : len(target_counts)]
        margins = (0.5 - losses.detach()) / (0.5 - self.margin)
        return Assessment(losses.sum(1), named, named.detach().round().long(), margins.amin(1))

    def counts(self, images: Tensor, object_names: Sequence[str]) -> Tensor:
        with torch.no_grad():
            return self.maps(images, object_names).sum((2, 3)).round().long()


def seen_size(height: int, width: int) -> tuple[int, int]:
    """The size a picture is seen at: the nearest the network can take, or `TRAINED_SIZE` for large ones."""
    if max(height, width) > LARGEST_SIZE:
        return TRAINED_SIZE, TRAINED_SIZE

    def nearest(side: int) -> int:
        return max(1, round(side / _COARSEST_STRIDE)) * _COARSEST_STRIDE

    return nearest(height), nearest(width)
