"""Evaluated latents, and the steps that methods yield of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from countgen.backbones.low_memory import retry_with_low_memory
from countgen.critics import Evaluation
from countgen.methods.objective import Objective
from countgen.methods.problem import Problem
from countgen.methods.step import SEARCH, Budget, Step


@dataclass(frozen=True)
class Batch:
    """Candidates that were evaluated together.

    Attributes:
        seeds: that the latents come from.
        latents: float (B, C, h, w).
        images: rendered from them, RGB float (B, 3, H, W) in [0, 1].
        evaluation: of the images.
    """

    seeds: Sequence[int]
    latents: Tensor
    images: Tensor
    evaluation: Evaluation

    def steps(self, problem: Problem, probability: Tensor, budget: Budget, phase: str) -> list[Step]:
        """Return a step for each candidate, with its own copy of image and latents.

        Args:
            problem: says from which probability on a count is confirmed.
            probability: (B,) of a right count.
            budget: its counters are copied into the steps.
            phase: as `Step` has it.
        """
        evaluation = self.evaluation
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
                confirmed=float(probability[row]) >= problem.sure,
                # A view would keep the whole batch in memory.
                image=self.images[row].detach().clone(),
                latents=self.latents[row].detach().clone(),
                evaluations=budget.evaluations,
                seconds=budget.seconds,
                rendered_alone=phase == SEARCH and (len(self.seeds) == 1 or problem.backbone.seeds_only),
            )
            for row, seed in enumerate(self.seeds)
        ]

    def steps_by(self, problem: Problem, objective: Objective, budget: Budget, phase: str) -> list[Step]:
        """Return a step for each candidate, with P(right) by all critics and views of the objective that evaluated."""
        acceptance = problem.acceptance
        evidence = acceptance.plain if len(objective.critics) > 1 else acceptance.first
        if len(objective.views) > 1:
            evidence = acceptance.views
        probability = acceptance.probability(
            evidence, self.evaluation.margin, objective.columns, problem.targets, refined=phase != SEARCH
        )
        return self.steps(problem, probability, budget, phase)


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
        images, _ = problem.backbone.render_in_parts(latents, problem.embeds, seeds, check=budget.check_stop)
        budget.check_stop()
        return images, objective.evaluate(images)

    images, evaluation = retry_with_low_memory(problem.backbone, evaluate, problem.graphs.release)
    budget.charge(len(latents))
    return Batch(seeds, latents, images, evaluation).steps_by(problem, objective, budget, phase)
