"""Best of N seeds: the baseline that every method must beat at equal cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from countgen.backbones import Backbone, PromptEmbeds
from countgen.backbones.memory_check import pictures_at_once
from countgen.errors import NonFiniteLossError
from countgen.methods.objective import CONFIRMING, PLAIN, View, examine
from countgen.methods.step import Budget, Step
from countgen.prompts import Target
from critics.base import Critic
from critics.losses import LOSSES

SEED_STRIDE = 1_000_003
"""Candidates of seed s are s, s + stride, s + 2 stride, ...: neighbouring seeds never share one."""

Accept = Callable[[Step], bool]


def confirmed(step: Step) -> bool:
    """Stop at the first candidate that every view confirms."""
    return step.confirmed


@dataclass(frozen=True)
class SearchSettings:
    """How seeds are searched.

    Attributes:
        batch_size: seeds drawn at once.
        first_batch_size: of the first draw; small, because low counts are often right at once.
        views: asked for candidates that the first view counts right.
    """

    batch_size: int = 8
    first_batch_size: int = 4
    views: tuple[View, ...] = CONFIRMING

    def __post_init__(self) -> None:
        if min(self.batch_size, self.first_batch_size) < 1:
            raise ValueError(f"batch sizes must be at least 1, got {self.first_batch_size} and {self.batch_size}")

    def batches(self, seed: int) -> Iterator[list[int]]:
        """Endless batches of candidate seeds."""
        size = self.first_batch_size
        while True:
            yield [seed + k * SEED_STRIDE for k in range(size)]
            seed += size * SEED_STRIDE
            size = self.batch_size


def search_seeds(
    backbone: Backbone,
    critics: Sequence[Critic],
    embeds: PromptEmbeds,
    targets: Sequence[Target],
    seed: int,
    budget: Budget,
    settings: SearchSettings | None = None,
    accept: Accept = confirmed,
) -> Iterator[Step]:
    """Draw batches of seeds until a candidate is accepted or the budget is spent.

    Yields:
        The best `Step` of each batch, and whatever else in it is confirmed.

    Raises:
        NonFiniteLossError: every loss of a batch is not a number; the message names the step.
    """
    settings = settings or SearchSettings()
    for index, seeds in enumerate(settings.batches(seed)):
        affordable = seeds[: budget.evaluations_left]
        steps = draw(backbone, critics, embeds, targets, affordable, budget, settings, index)
        for step in worth_showing(steps):
            yield step
            if accept(step):
                return
        if not budget.left:
            return


def worth_showing(steps: Sequence[Step]) -> list[Step]:
    """The best of a batch, and every other one that is confirmed, best first."""
    ranked = sorted(steps, key=lambda step: step.rank, reverse=True)
    return [step for step in ranked if step is ranked[0] or step.confirmed]


@torch.no_grad()
def draw(
    backbone: Backbone,
    critics: Sequence[Critic],
    embeds: PromptEmbeds,
    targets: Sequence[Target],
    seeds: Sequence[int],
    budget: Budget,
    settings: SearchSettings,
    index: int = 0,
) -> list[Step]:
    """One batch of seeds, each looked at once, and on every view where the first look is right.

    Raises:
        DoesNotFitError: the device's memory will not do for a single picture.
        NonFiniteLossError: every loss of the batch is not a number; the message names the step.
    """
    latents = backbone.initial_latents(seeds)
    size = pictures_at_once(backbone, embeds, len(seeds))
    parts = [slice(start, start + size) for start in range(0, len(seeds), size)]
    images = torch.cat([backbone.render(latents[part], embeds, seeds[part]) for part in parts])
    budget.evaluations += len(seeds)
    first = examine(images, targets, critics, PLAIN, LOSSES["margin"])
    if not torch.isfinite(first.loss).any():
        raise NonFiniteLossError(f"no loss of the batch is finite at step {index}; use float32 or another VAE")
    margin = first.margin.clone()
    right = margin > 0
    if right.any() and len(settings.views) > 1:
        margin[right] = examine(images[right], targets, critics, settings.views, LOSSES["margin"]).margin
    return [
        Step(
            index=index,
            phase="search",
            seed=seeds[row],
            loss=float(first.loss[row]),
            soft_counts=tuple(first.soft_counts[row].tolist()),
            counts=tuple(first.counts[row].tolist()),
            margin=float(margin[row]),
            # Copies: a view would keep the whole batch in memory.
            image=images[row].clone(),
            latents=latents[row].clone(),
            evaluations=budget.evaluations,
            seconds=budget.seconds,
        )
        for row in range(len(seeds))
    ]
