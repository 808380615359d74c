"""A detector that says how many, and a density map that says in which direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from critics.base import Assessment, Critic
from critics.detectors.density import DensityCritic
from critics.ensemble import objects_of_all
from critics.losses import CountLoss, density, dynamic_scale


class DynamicScaleCritic(Critic):
    """Any detector's count, with a density map's gradient: the detector need not be differentiable.

    The soft count is sum / scale, where the scale is what makes it the detector's count; where that is 0, the
    value is 0 all the same and the gradient that of the plain map.

    Args:
        detector: counts; it runs without gradient, on a detached picture.
        density: points the way.

    Source: Zafar et al. 2024 (count token, arXiv 2408.11721).
    """

    def __init__(self, detector: Critic, density: DensityCritic) -> None:
        self.detector = detector
        self.density = density
        self.name = f"{detector.name} by {density.name}"
        self.object_names = objects_of_all((density, detector))
        self.max_count = detector.max_count

    def column(self, object_name: str) -> int:
        """Index among the objects both know; both are asked, since each has its own words."""
        for critic in (self.density, self.detector):
            if critic.object_names is not None:
                critic.column(object_name)
        return super().column(object_name)

    @property
    def families(self) -> frozenset[str]:
        return self.detector.families | self.density.families

    def at_scale(self, factor: float) -> DynamicScaleCritic:
        scaled = self.detector.at_scale(factor)
        return self if scaled is self.detector else DynamicScaleCritic(scaled, self.density)

    def assess(
        self, images: Tensor, target_counts: Mapping[str, int], loss: CountLoss, *, others: bool = False
    ) -> Assessment:
        """See `Critic.assess`; `loss` is not read, it is always `critics.losses.density`.

        The margin is the detector's. Other objects are pulled down by what the map says of them alone, since a
        detector says how many there are of each object asked for, and not of all the rest.
        """
        with torch.no_grad():
            found = self.detector.assess(images.detach(), target_counts, loss, others=others)
        every_sum = self.density.maps(images, list(target_counts), others=others).sum((2, 3))
        sums = every_sum[:, : len(target_counts)]
        # Adding the difference of a tensor and itself gives the detector's count its gradient.
        soft_counts = found.counts + (sums - sums.detach()) / dynamic_scale(sums, found.counts)
        columns = zip(soft_counts.unbind(1), target_counts.values(), strict=True)
        losses = [density(column, target_count) for column, target_count in columns]
        if others:
            losses.append(density(every_sum[:, -1], 0))
        return Assessment(torch.stack(losses).sum(0), soft_counts, found.counts, found.margin)

    def counts(self, images: Tensor, object_names: Sequence[str]) -> Tensor:
        return self.detector.counts(images, object_names)
