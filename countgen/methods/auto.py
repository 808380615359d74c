"""Search a few seeds in a batch, then refine the nearest by gradient; repeat."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from countgen.methods.memory import check_gradient_memory
from countgen.methods.problem import Problem
from countgen.methods.refinement import RefinementSettings, refine
from countgen.methods.seeds import SearchSettings, evaluate_seeds, worth_showing
from countgen.methods.settings import Settings, setting
from countgen.methods.step import COST_WITH_GRADIENT, Budget, Step

MOST_WAITING = 24
"""Candidates kept for a later refinement; on a long run better ones keep coming."""


@dataclass(frozen=True)
class AutoSettings(Settings):
    """How search and refinement share the budget. The defaults were chosen on tuning seeds, see docs/results.md."""

    num_searches: int = setting(2, "batches of seeds evaluated before each refinement", at_least=1)
    num_refined: int = setting(3, "of the nearest candidates, refined together", at_least=1)
    search: SearchSettings = field(default_factory=SearchSettings)
    refinement: RefinementSettings = field(default_factory=lambda: RefinementSettings(num_optimization_steps=8))


def auto(problem: Problem, seed: int, budget: Budget, settings: AutoSettings) -> Iterator[Step]:
    """Search seeds in batches and refine the nearest candidates by gradient, in turn.

    Raises:
        DoesNotFitError: the device's memory is too small for a refinement; found before the first search.
        NonFiniteLossError: the loss is not finite; the message names the step.
    """
    refinement = settings.refinement
    check_gradient_memory(
        problem.backbone,
        problem.embeds,
        settings.num_refined,
        problem.objective(refinement.views, refinement.loss),
        problem.cache,
        draft=problem.backbone.tiny_vae is not None,
    )
    waiting: list[Step] = []
    index = 0
    for number, seeds in enumerate(settings.search.batches(seed), start=1):
        affordable = seeds[: budget.evaluations_left]
        searched = evaluate_seeds(problem, affordable, budget, settings.search.views, index)
        for step in worth_showing(searched):
            accepted = problem.accept(step)
            yield step
            if accepted:
                return
        if not budget.left:
            return
        index += 1
        # One that is confirmed and yet not accepted has nothing left to refine; one without a finite loss no gradient.
        nearest = (s for s in (*waiting, *searched) if not s.confirmed and s.rank > -math.inf)
        waiting = sorted(nearest, key=lambda s: s.rank, reverse=True)
        if number % settings.num_searches:
            continue
        # Where not even an evaluation, its gradient and the next one can be paid for, seeds are the better buy.
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
