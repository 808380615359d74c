"""Search a few seeds in a batch, then refine the nearest by gradient; repeat."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from countgen.methods.problem import Problem
from countgen.methods.refinement import RefinementSettings, refine
from countgen.methods.seeds import SearchSettings, best_and_confirmed, evaluate_seeds
from countgen.methods.settings import Settings, setting
from countgen.methods.step import COST_WITH_GRADIENT, Budget, Step

CALIBRATED = True
"""Counts beyond the model's number words are encoded by its calibration, see `countgen.methods.registry`."""

MOST_WAITING = 24
"""Largest number of candidates kept for a later refinement."""


@dataclass(frozen=True)
class AutoSettings(Settings):
    """Settings of search and refinement in turn. The defaults were chosen on tuning seeds, see docs/results.md."""

    num_searches: int = setting(2, "batches of seeds evaluated before each refinement", at_least=1)
    num_refined: int = setting(3, "nearest candidates that are refined in one batch", at_least=1)
    search: SearchSettings = field(default_factory=SearchSettings)
    refinement: RefinementSettings = field(default_factory=lambda: RefinementSettings(num_optimization_steps=8))


def auto(problem: Problem, seed: int, budget: Budget, settings: AutoSettings) -> Iterator[Step]:
    """Search seeds in batches and refine the nearest candidates by gradient, in turn.

    Raises:
        DoesNotFitError: the device's memory is too small.
        NonFiniteLossError: the loss is not finite; the message names the step.
    """
    refinement = settings.refinement
    waiting: list[Step] = []
    index = 0
    for number, seeds in enumerate(settings.search.batches(seed), start=1):
        affordable = seeds[: budget.evaluations_left]
        searched = evaluate_seeds(problem, affordable, budget, settings.search.views, index)
        for step in best_and_confirmed(searched):
            accepted = problem.accept(step)
            yield step
            if accepted:
                return
        if not budget.left:
            return
        index += 1
        # A confirmed candidate that was not accepted has a loss of 0; one without a finite loss has no gradient.
        nearest = (s for s in (*waiting, *searched) if not s.confirmed and s.rank > -math.inf)
        waiting = sorted(nearest, key=lambda s: s.rank, reverse=True)
        if number % settings.num_searches:
            continue
        # A refinement needs an evaluation, its gradient and another evaluation; with less budget, seeds are searched.
        number_refined = min(settings.num_refined, budget.evaluations_left // (COST_WITH_GRADIENT + 1))
        chosen, waiting = waiting[:number_refined], waiting[number_refined:MOST_WAITING]
        if not chosen:
            continue
        latents = torch.stack([step.latents for step in chosen])
        chosen_seeds = [step.seed for step in chosen]
        for step in refine(problem, latents, chosen_seeds, budget, refinement, first_index=index):
            accepted = problem.accept(step)
            yield step
            if accepted or not budget.left:
                return
            index = step.index + 1
