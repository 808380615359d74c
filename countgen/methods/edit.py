"""Change the count of one image and keep the rest: moves of noise patches, then a gradient near undecided objects."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch

from countgen.image_preservation import is_same_image
from countgen.methods.evaluation import evaluate_latents
from countgen.methods.locality import PHASES, ConfinedLatents, LocalSettings, detector_of
from countgen.methods.objective import Objective
from countgen.methods.patches import PatchMoves
from countgen.methods.problem import Problem
from countgen.methods.refinement import refine
from countgen.methods.settings import setting
from countgen.methods.step import Budget, Step

CALIBRATED = True
"""Counts beyond the model's number words are encoded by its calibration, see `countgen.methods.registry`."""

STARTS_FROM_IMAGE = True

PATCHES_MOVED = "edit, patches moved"
"""Phase of steps without a gradient, see `countgen.methods.patches`; the others are those of `ConfinedLatents`."""


@dataclass(frozen=True)
class EditSettings(LocalSettings):
    """What an edit may change. The defaults were chosen on tuning seeds, see docs/results.md."""

    batch_size: int = setting(4, "patch moves evaluated at once, until none of a batch improves the image", at_least=1)
    num_optimization_steps: int = setting(5, "gradient steps from the best image; then moves follow", at_least=1)
    learning_rate: float = setting(0.05, "of the optimizer, on latents of unit variance", above=0)
    enough_margin: float = setting(
        0.25, "the edit ends above this margin, over all views; 1 is a confirmed count", at_least=0
    )
    num_rounds: int = setting(6, "of moves and then gradient steps; the constraints loosen twice", at_least=1)


def edit(problem: Problem, seed: int, budget: Budget, settings: EditSettings) -> Iterator[Step]:
    """Change the count of one seed's image and keep the rest of the image.

    An image whose count is right on every view is not changed.

    Yields:
        The best `Step` so far that is still the same image, see `countgen.image_preservation.is_same_image`.

    Raises:
        NonFiniteLossError: the loss is not finite; the message names the step.
    """
    latents = problem.latents
    if latents is None:
        latents = problem.backbone.initial_latents([seed])
    objective = problem.objective(settings.views, settings.loss)
    (first,) = evaluate_latents(problem, objective, latents, seed, budget, PHASES[0])
    enough = 0.0
    for best in chain([first], _improved(problem, objective, first, budget, settings)):
        accepted = problem.accept(best)
        yield best
        if accepted or not budget.left or best.margin > enough:
            return
        enough = settings.enough_margin


def _improved(
    problem: Problem, objective: Objective, first: Step, budget: Budget, settings: EditSettings
) -> Iterator[Step]:
    """Yield the best step after each batch of moves and each gradient step, with what the edit has cost so far."""
    detector = detector_of(problem)
    generator = torch.Generator().manual_seed(first.seed)
    best = first

    def is_same(step: Step) -> bool:
        return detector is None or is_same_image(first.image, step.image, detector, problem.targets)

    def updated(steps: Sequence[Step]) -> Step:
        higher = sorted((step for step in steps if step.rank > best.rank), key=lambda step: step.rank, reverse=True)
        better = next(filter(is_same, higher), best)
        return replace(better, index=budget.steps - 1, evaluations=budget.evaluations, seconds=budget.seconds)

    for number in range(settings.num_rounds):
        rank = -math.inf
        while detector is not None and best.rank > rank:
            rank = best.rank
            moves = PatchMoves(detector, problem.targets, best.image, best.latents, generator)
            if any(moves.missing):
                moved = moves.batch(min(settings.batch_size, budget.evaluations_left))
                best = updated(evaluate_latents(problem, objective, moved, best.seed, budget, PATCHES_MOVED))
                yield best
        for step in _descent(problem, best, budget, settings, min(number, len(PHASES) - 1)):
            best = updated([step])
            yield best
            if not is_same(step):
                break


def _descent(problem: Problem, start: Step, budget: Budget, settings: EditSettings, level: int) -> Iterator[Step]:
    """Yield the steps of a descent from a step's latents, under the constraints of a level."""
    latents = start.latents[None]
    confined = ConfinedLatents(problem, latents, settings, level)
    for step in refine(problem, latents, [start.seed], budget, settings, lambda _: confined, transform=confined.local):
        yield replace(step, phase=PHASES[level])
