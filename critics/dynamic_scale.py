"""Combine the count of any detector with the gradient of a density map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from countgen.critics.base import Critic
from countgen.critics.detectors.density import DensityCritic
from countgen.critics.evaluation import Evaluation
from countgen.critics.losses import CountLoss, density, dynamic_scale
from countgen.critics.vocabulary import class_index


class DynamicScaleCritic(Critic):
    """A critic with any detector's count and a density map's gradient: the detector need not be differentiable.

    The soft count is sum / scale, with the scale that makes it equal to the detector's count; where that count is 0,
    the soft count is 0 and the gradient is that of the unscaled map.

    Args:
        detector: gives the count; it runs without gradient, on a detached image.
        density: gives the gradient.

    Source: Zafar et al. 2024 (count token, arXiv 2408.11721).
    """

    def __init__(self, detector: Critic, density: DensityCritic) -> None:
        self.detector = detector
        self.density = density
        self.name = f"{detector.name} by {density.name}"
        self.object_names = density.object_names
        if density.object_names is not None and (others := detector.object_names) is not None:
            # The classes of both, as the density map spells them ("airplane" or "aeroplane").
            self.object_names = tuple(name for name in density.object_names if class_index(name, others) is not None)
        self.max_count = detector.max_count

    @property
    def families(self) -> frozenset[str]:
        return self.detector.families | self.density.families

    def at_scale(self, factor: float) -> DynamicScaleCritic:
        scaled = self.detector.at_scale(factor)
        return self if scaled is self.detector else DynamicScaleCritic(scaled, self.density)

    def evaluate(self, images: Tensor, target_counts: Mapping[str, int], loss: CountLoss) -> Evaluation:
        """See `Critic.evaluate`; `loss` is not read, it is always `countgen.critics.losses.density`.

        The margin is the detector's.
        """
        with torch.no_grad():
            detected = self.detector.evaluate(images.detach(), target_counts, loss)
        sums = self.density.maps(images, list(target_counts)).sum((2, 3))
        # Adding the difference of a tensor and itself gives the detector's count its gradient.
        soft_counts = detected.counts + (sums - sums.detach()) / dynamic_scale(sums, detected.counts)
        columns = zip(soft_counts.unbind(1), target_counts.values(), strict=True)
        losses = [density(column, target_count) for column, target_count in columns]
        return Evaluation(torch.stack(losses).sum(0), soft_counts, detected.counts, detected.margin)

    def counts(self, images: Tensor, object_names: Sequence[str]) -> Tensor:
        return self.detector.counts(images, object_names)
