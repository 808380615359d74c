"""A density map as a critic: it adds up how much of an object is where, and has no limit of candidates.

That does not make it the better counter of many: see docs/results.md, where the heat map is ahead at 11 to 20.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from countgen.critics.base import Critic, columns, resized
from countgen.critics.evaluation import Evaluation
from countgen.critics.losses import CountLoss, density
from countgen.critics.networks.density import DensityCounter
from countgen.critics.networks.hourglass import seen_size
from countgen.critics.validation import check_names, check_targets, checked_images, to_batch
from countgen.critics.weights import restore


class DensityCritic(Critic):
    """Counts by the sum of a class's density map; the hard count is that sum, rounded.

    It has no candidates: whatever loss is given, `countgen.critics.losses.density` is computed.
    """

    family = "density"
    # In objects: a sum nearer to N than this is trusted, and a rounding error away from it the count is wrong.
    safe_distance = 0.3

    def maps(self, images: Tensor, object_names: Sequence[str]) -> Tensor:
        """Return the density maps of the objects, (B, T, h, w), with gradient."""
        wanted = [self.column(name) for name in object_names]
        images = to_batch(images).to(self.dtype)
        return columns(self.model(resized(images, *seen_size(*images.shape[-2:]))), wanted, 1)

    def evaluate(self, images: Tensor, target_counts: Mapping[str, int], loss: CountLoss) -> Evaluation:
        """See `Critic.evaluate`; `loss` is not read."""
        check_names(list(target_counts))
        check_targets(target_counts, loss)
        sums = self.maps(images, list(target_counts)).sum((2, 3))
        losses = torch.stack(
            [density(total, n) for total, n in zip(sums.unbind(1), target_counts.values(), strict=True)], 1
        )
        margins = (0.5 - losses.detach()) / (0.5 - self.safe_distance)
        return Evaluation(losses.sum(1), sums, sums.detach().round().long(), margins.amin(1))

    def counts(self, images: Tensor, object_names: Sequence[str]) -> Tensor:
        check_names(object_names)
        with torch.no_grad():
            return self.maps(checked_images(images), object_names).sum((2, 3)).round().long()


load = partial(restore, DensityCritic, DensityCounter)
