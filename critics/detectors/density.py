"""A density map as a critic: it adds up how much of an object is where, and has no limit of candidates.

That does not make it the better counter of many: see docs/critics/report.md, where the heat map is ahead at 11 to 20.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from critics.base import Assessment, Critic, columns
from critics.losses import CountLoss, density
from critics.networks.density import DensityCounter, build
from critics.networks.hourglass import seen_size
from critics.validation import check_names, check_question, checked_pictures, to_batch
from critics.weights import restore


def load(*, weights: str | Path, device: torch.device | str = "cpu") -> DensityCritic:
    """Build the critic from a safetensors file that names its objects, see `critics.weights`.

    Raises:
        ValueError: no such file, or the weights of another architecture.
    """
    return restore("density", weights, build, DensityCritic, device)


class DensityCritic(Critic):
    """Counts by the sum of a class's density map; the hard count is that sum, rounded.

    There are no candidates: whichever loss is asked for, it is `critics.losses.density`.
    """

    family = "density"
    # In objects: a sum nearer to N than this is trusted, and a rounding error away from it the count is wrong.
    margin = 0.3

    def __init__(self, counter: DensityCounter, object_names: Sequence[str]) -> None:
        self.counter: Any = counter.eval().requires_grad_(False)
        self.object_names = tuple(object_names)
        self.name = "density"

    def maps(self, images: Tensor, object_names: Sequence[str], *, others: bool = False) -> Tensor:
        """Density maps (B, T, h, w) of the objects, and of all other objects together if asked; with gradient."""
        asked = [self.column(name) for name in object_names]
        images = to_batch(images)
        size = seen_size(*images.shape[-2:])
        if size != tuple(images.shape[-2:]):
            images = interpolate(images, size=size, mode="bilinear", align_corners=False)
        found = self.counter(images)
        if found.dtype != torch.float64:
            found = found.float()
        if not others:
            return columns(found, asked, 1)
        rest = [column for column in range(found.shape[1]) if column not in asked]
        if not rest:
            raise ValueError(f"{self.name} knows no objects besides those asked for")
        return torch.cat([columns(found, asked, 1), columns(found, rest, 1).sum(1, keepdim=True)], 1)

    def assess(
        self, images: Tensor, target_counts: Mapping[str, int], loss: CountLoss, *, others: bool = False
    ) -> Assessment:
        """See `Critic.assess`; `loss` is not read."""
        check_names(list(target_counts))
        check_question(target_counts, loss)
        sums = self.maps(images, list(target_counts), others=others).sum((2, 3))
        wanted = [*target_counts.values(), *([0] if others else [])]
        losses = torch.stack([density(total, n) for total, n in zip(sums.unbind(1), wanted, strict=True)], 1)
        named = sums[:, : len(target_counts)]
        margins = (0.5 - losses.detach()) / (0.5 - self.margin)
        return Assessment(losses.sum(1), named, named.detach().round().long(), margins.amin(1))

    def counts(self, images: Tensor, object_names: Sequence[str]) -> Tensor:
        check_names(object_names)
        with torch.no_grad():
            return self.maps(checked_pictures(images), object_names).sum((2, 3)).round().long()
