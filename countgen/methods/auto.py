"""Search seeds while they are likely to be right, and refine the nearest by gradient where they are rare."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from countgen.methods.problem import Problem
from countgen.methods.refinement import RefinementSettings, refine
from countgen.methods.seeds import SearchSettings, best_of, searched, until_accepted
from countgen.methods.settings import Settings, setting
from countgen.methods.step import COST_WITH_GRADIENT, Budget, Step

CALIBRATED = True
"""Counts beyond the model's number words are encoded by its calibration, see `countgen.methods.registry`."""

MOST_WAITING = 24
"""Largest number of candidates kept for a later refinement."""


@dataclass(frozen=True)
class AutoSettings(Settings):
    """Settings of search and refinement in turn. The defaults were chosen on tuning seeds, see docs/results.md."""

    refinement_cost: float = setting(
        24.0, "seeds that one refinement costs: it is tried where more are expected until the next right one", above=0
    )
    min_seeds: int = setting(8, "seeds evaluated before each refinement", at_least=1)
    num_refined: int = setting(1, "nearest candidates that are refined in one batch", at_least=1)
    search: SearchSettings = field(default_factory=SearchSettings)
    refinement: RefinementSettings = field(default_factory=lambda: RefinementSettings(num_optimization_steps=8))


def auto(problem: Problem, seed: int, budget: Budget, settings: AutoSettings) -> Iterator[Step]:
    """Search seeds, and refine the nearest ones by gradient where right ones are rare.

    Raises:
        DoesNotFitError: the device's memory is too small.
        NonFiniteLossError: the loss is not finite; the message names the step.
    """
    waiting: list[Step] = []
    num_seeds = since_refinement = 0
    expected_right = 0.0
    for steps in searched(problem, seed, budget, settings.search):
        if (yield from until_accepted(problem, best_of(steps))):
            return
        num_seeds += len(steps)
        since_refinement += len(steps)
        expected_right += sum(step.probability for step in steps)
        # A confirmed candidate that was not accepted has a loss of 0; one without a finite loss has no gradient.
        nearest = (s for s in (*waiting, *steps) if not s.confirmed and s.rank > -math.inf)
        waiting = sorted(nearest, key=lambda s: s.rank, reverse=True)[:MOST_WAITING]
        if since_refinement < settings.min_seeds or expected_right * settings.refinement_cost > num_seeds:
            continue
        # A refinement needs an evaluation, its gradient and another evaluation; with less budget, seeds are searched.
        number = min(settings.num_refined, budget.evaluations_left // (COST_WITH_GRADIENT + 1))
        chosen, waiting = waiting[:number], waiting[number:]
        if not chosen:
            continue
        since_refinement = 0
        latents = torch.stack([step.latents for step in chosen])
        refined = refine(problem, latents, [step.seed for step in chosen], budget, settings.refinement)
        if (yield from until_accepted(problem, refined)):
            return
