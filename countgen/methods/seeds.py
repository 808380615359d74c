"""Evaluate batches of seeds, without gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from countgen.backbones.low_memory import retry_with_low_memory
from countgen.critics import Evaluation
from countgen.errors import NonFiniteLossError
from countgen.methods.objective import CONFIRMATION_VIEWS, PLAIN_VIEW, View
from countgen.methods.problem import Problem
from countgen.methods.settings import Settings, setting
from countgen.methods.step import Budget, Step, steps_of

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
    latents = problem.backbone.initial_latents(seeds)
    images, evaluation = retry_with_low_memory(
        problem.backbone, lambda: _evaluated(problem, latents, seeds, budget, views), problem.graphs.release
    )
    budget.evaluations += len(seeds)
    if not torch.isfinite(evaluation.loss).any():
        raise NonFiniteLossError(f"no loss of the batch is finite at step {index}; use float32 or another VAE")
    return steps_of(seeds, images, latents, evaluation, budget, index=index, phase="search")


def _evaluated(
    problem: Problem, latents: Tensor, seeds: Sequence[int], budget: Budget, views: Sequence[View]
) -> tuple[Tensor, Evaluation]:
    """Return images and their evaluation on the first view, its margin that of all views that were evaluated."""
    images = problem.backbone.render_in_parts(latents, problem.embeds, seeds, check=budget.check_stop)
    budget.check_stop()
    first = problem.objective(PLAIN_VIEW, "margin").evaluate(images)
    margin = first.margin.clone()
    right = margin > 0
    if right.any() and len(views) > 1:
        budget.check_stop()
        margin[right] = problem.objective(views, "margin").evaluate(images[right]).margin
    return images, replace(first, margin=margin)


def best_and_confirmed(steps: Sequence[Step]) -> list[Step]:
    """Return the best step of a batch, and every other one that is confirmed, best first."""
    ranked = sorted(steps, key=lambda step: step.rank, reverse=True)
    return [step for step in ranked if step is ranked[0] or step.confirmed]
