"""Evaluate latents, and return the candidates as steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from countgen.backbones.low_memory import retry_with_low_memory
from countgen.critics import Evaluation
from countgen.methods.objective import Objective
from countgen.methods.problem import Problem
from countgen.methods.step import SEARCH, Budget, Step


@torch.no_grad()
def evaluate_latents(
    problem: Problem, objective: Objective, latents: Tensor, seed: int, budget: Budget, phase: str
) -> list[Step]:
    """Evaluate a batch of latents on every view of an objective.

    Args:
        problem, objective: to solve.
        latents: float (B, C, h, w).
        seed: that they come from.
        budget: charged one evaluation for each image.
        phase: of the steps.

    Raises:
        DoesNotFitError: the device's memory is too small for a single image.
        StopRequestedError: as `Budget.check_stop`.
    """
    seeds = [seed] * len(latents)

    def evaluate() -> tuple[Tensor, Evaluation]:
        images = problem.backbone.render_in_parts(latents, problem.embeds, seeds, check=budget.check_stop)
        budget.check_stop()
        return images, objective.evaluate(images)

    images, evaluation = retry_with_low_memory(problem.backbone, evaluate, problem.graphs.release)
    budget.charge(len(latents))
    return steps_of_evaluated(problem, objective, seeds, images, latents, evaluation, budget, phase=phase)


def steps_of_evaluated(
    problem: Problem,
    objective: Objective,
    seeds: Sequence[int],
    images: Tensor,
    latents: Tensor,
    evaluation: Evaluation,
    budget: Budget,
    *,
    phase: str,
) -> list[Step]:
    """Return a step for each candidate, with P(right) by all of an objective's critics and views.

    Args:
        problem, objective: to solve.
        seeds, images, latents, evaluation, budget, phase: as of `steps_of`.
    """
    acceptance = problem.acceptance
    several = acceptance.plain if len(objective.critics) > 1 else acceptance.first
    evidence = acceptance.views if len(objective.views) > 1 else several
    probability = acceptance.probability(evidence, evaluation.margin, objective.columns, refined=phase != SEARCH)
    return steps_of(seeds, images, latents, evaluation, budget, phase=phase, probability=probability, sure=problem.sure)


def steps_of(
    seeds: Sequence[int],
    images: Tensor,
    latents: Tensor,
    evaluation: Evaluation,
    budget: Budget,
    *,
    phase: str,
    probability: Tensor,
    sure: float,
) -> list[Step]:
    """Return a step for each candidate of an evaluated batch; images and latents are copied, not viewed.

    Args:
        seeds: of the batch.
        images: (B, 3, H, W).
        latents: (B, C, h, w).
        evaluation: of the images.
        budget: its counters are copied into the steps.
        phase: as `Step` has it.
        probability: (B,) of a right count.
        sure: the probability from which on a count is confirmed.
    """
    return [
        Step(
            index=budget.steps - 1,
            phase=phase,
            seed=seed,
            loss=float(evaluation.loss[row]),
            soft_counts=tuple(evaluation.soft_counts[row].tolist()),
            counts=tuple(evaluation.counts[row].tolist()),
            margin=float(evaluation.margin[row].min()),
            probability=float(probability[row]),
            confirmed=float(probability[row]) >= sure,
            # A view would keep the whole batch in memory.
            image=images[row].detach().clone(),
            latents=latents[row].detach().clone(),
            evaluations=budget.evaluations,
            seconds=budget.seconds,
            rendered_alone=phase == SEARCH and len(seeds) == 1,
        )
        for row, seed in enumerate(seeds)
    ]
