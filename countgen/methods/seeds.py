"""Evaluate batches of seeds, without gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from countgen.errors import NonFiniteLossError
from countgen.methods.memory import images_at_once
from countgen.methods.objective import CONFIRMATION_VIEWS, PLAIN_VIEW, View
from countgen.methods.problem import Problem
from countgen.methods.settings import Settings, setting
from countgen.methods.step import Budget, Step, step_of

SEED_STRIDE = 1_000_003
"""Candidates of seed s are s, s + stride, s + 2 stride, ...: neighbouring seeds never share one."""


@dataclass(frozen=True)
class SearchSettings(Settings):
    """Settings of the search over seeds."""

    batch_size: int = setting(8, "seeds evaluated at once", at_least=1)
    first_batch_size: int = setting(
        4, "seeds of the first batch; small, because low counts are often right in it", at_least=1
    )
    views: tuple[View, ...] = field(default=CONFIRMATION_VIEWS)

    def batches(self, seed: int) -> Iterator[list[int]]:
        """Yield batches of candidate seeds without end."""
        size = self.first_batch_size
        while True:
            yield [seed + k * SEED_STRIDE for k in range(size)]
            seed += size * SEED_STRIDE
            size = self.batch_size


@torch.no_grad()
def evaluate_seeds(
    problem: Problem, seeds: Sequence[int], budget: Budget, views: Sequence[View], index: int = 0
) -> list[Step]:
    """Evaluate each seed once, and on every view where the first view's count is right.

    Args:
        problem: to solve.
        seeds: at least one.
        budget: charged one evaluation for each seed.
        views: those that confirm a count; the first one is the untransformed image.
        index: of the steps.

    Raises:
        DoesNotFitError: the device's memory is too small for a single image.
        NonFiniteLossError: no loss of the batch is finite; the message names the step.
        StopRequestedError: as `Budget.check_stop`.
    """
    backbone, embeds = problem.backbone, problem.embeds
    size = images_at_once(backbone, embeds, len(seeds), problem.cache)
    latents = backbone.initial_latents(seeds)
    parts = [slice(start, start + size) for start in range(0, len(seeds), size)]
    stop = budget.check_stop
    images = torch.cat([backbone.render(latents[part], embeds, seeds[part], check=stop) for part in parts])
    budget.evaluations += len(seeds)
    budget.check_stop()
    first = problem.objective(PLAIN_VIEW, "margin").evaluate(images)
    if not torch.isfinite(first.loss).any():
        raise NonFiniteLossError(f"no loss of the batch is finite at step {index}; use float32 or another VAE")
    margin = first.margin.clone()
    right = margin > 0
    if right.any() and len(views) > 1:
        budget.check_stop()
        margin[right] = problem.objective(views, "margin").evaluate(images[right]).margin
    return [
        step_of(
            row,
            index=index,
            phase="search",
            seed=seed,
            images=images,
            latents=latents,
            evaluation=first,
            budget=budget,
            margin=margin,
        )
        for row, seed in enumerate(seeds)
    ]


def best_and_confirmed(steps: Sequence[Step]) -> list[Step]:
    """Return the best step of a batch, and every other one that is confirmed, best first."""
    ranked = sorted(steps, key=lambda step: step.rank, reverse=True)
    return [step for step in ranked if step is ranked[0] or step.confirmed]
