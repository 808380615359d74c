"""Several critics as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from critics.base import Assessment, Critic
from critics.losses import CountLoss


class EnsembleCritic(Critic):
    """A weighted panel: what fools one detector rarely fools two of different families.

    The loss and the soft count are weighted means; the hard count is the weighted median, so that one critic
    out of three is outvoted; the margin is the smallest, so that a count is trusted when every critic trusts it.

    `countgen.load(critics=("a", "b"))` needs no panel: a run adds the losses of its critics with equal weights, and
    every one of them must confirm. A panel is for unequal weights, and for a loop that takes one critic.

    Args:
        critics: at least one. A critic that judges the result must not be among them.
        weights: above 0, one per critic; equal by default.

    Raises:
        ValueError: no critics, the same one twice, or weights that do not fit.
    """

    def __init__(self, critics: Sequence[Critic], weights: Sequence[float] | None = None) -> None:
        weights = [1.0] * len(critics) if weights is None else list(weights)
        names = [critic.name for critic in critics]
        if not critics or len(weights) != len(critics) or min(weights) <= 0 or len(set(names)) < len(names):
            raise ValueError(
                f"an ensemble takes different critics and a weight above 0 for each, got {names} and {weights}"
            )
        self.critics = tuple(critics)
        self.weights = tuple(weight / sum(weights) for weight in weights)
        self.name = " + ".join(f"{weight:.2g} {name}" for weight, name in zip(self.weights, names, strict=True))
        self.object_names = objects_of_all(critics)
        self.max_count = min(critic.max_count for critic in critics)

    def column(self, object_name: str) -> int:
        """Index among the objects all critics know; each is asked, since each has its own words."""
        for critic in self.critics:
            if critic.object_names is not None:
                critic.column(object_name)
        return super().column(object_name)

    @property
    def families(self) -> frozenset[str]:
        return frozenset().union(*(critic.families for critic in self.critics))

    def at_scale(self, factor: float) -> EnsembleCritic:
        scaled = [critic.at_scale(factor) for critic in self.critics]
        same = all(one is other for one, other in zip(scaled, self.critics, strict=True))
        return self if same else EnsembleCritic(scaled, self.weights)

    def assess(
        self, images: Tensor, target_counts: Mapping[str, int], loss: CountLoss, *, others: bool = False
    ) -> Assessment:
        """See `Critic.assess`."""
        found = [critic.assess(images, target_counts, loss, others=others) for critic in self.critics]
        return Assessment(
            self._mean([one.loss for one in found]),
            self._mean([one.soft_counts for one in found]),
            self._vote(torch.stack([one.counts for one in found])),
            torch.stack([one.margin for one in found]).amin(0),
        )

    def counts(self, images: Tensor, object_names: Sequence[str]) -> Tensor:
        return self._vote(torch.stack([critic.counts(images, object_names) for critic in self.critics]))

    def _mean(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.stack([weight * part for weight, part in zip(self.weights, parts, strict=True)]).sum(0)

    def _vote(self, counts: Tensor) -> Tensor:
        """Weighted median over the first dimension of int64 (critics, B, T); the lower one of an even panel."""
        ordered, order = counts.sort(dim=0)
        weights = torch.stack([torch.full_like(counts[0], weight, dtype=torch.float32) for weight in self.weights])
        reached = weights.gather(0, order).cumsum(0) >= 0.5 - 1e-6
        return ordered.gather(0, reached.int().argmax(0, keepdim=True))[0]


def objects_of_all(critics: Sequence[Critic]) -> tuple[str, ...] | None:
    """What every critic knows, as the first with fixed classes says it: "airplane" here is "aeroplane" there."""
    closed = [critic for critic in critics if critic.object_names is not None]
    if not closed:
        return None
    return tuple(name for name in closed[0].object_names or () if all(_knows(critic, name) for critic in closed[1:]))


def _knows(critic: Critic, object_name: str) -> bool:
    try:
        critic.column(object_name)
    except ValueError:
        return False
    return True
