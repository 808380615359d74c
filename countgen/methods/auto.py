"""Search seeds, and refine the nearest one by gradient where seeds that can be accepted are rare."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from countgen.methods.problem import Problem
from countgen.methods.refinement import RefinementSettings, refine
from countgen.methods.seeds import SearchSettings, best_of, searched, until_accepted
from countgen.methods.settings import Settings, setting
from countgen.methods.step import COST_WITH_GRADIENT, Budget, Step

CALIBRATED = True
"""Counts beyond the model's number words are encoded by its calibration, see `countgen.methods.registry`."""
SEEDS_ONLY = True
"""Without gradient, seeds are searched alone."""

MOST_WAITING = 24
"""Largest number of candidates kept for a later refinement."""

SAVED = 0.7
"""Share of the cost of a refinement that is saved by a start which is right already and only not certain enough."""


@dataclass(frozen=True)
class AutoSettings(Settings):
    """Settings of search and refinement in turn."""

    refinement_cost: float = setting(12.0, "evaluations that the refinement of a wrong image takes on average", above=0)
    search: SearchSettings = field(default_factory=SearchSettings)
    refinement: RefinementSettings = field(default_factory=RefinementSettings)


def auto(problem: Problem, seed: int, budget: Budget, settings: AutoSettings) -> Iterator[Step]:
    """Search seeds, and refine the nearest one by gradient where another seed is expected to cost more.

    Raises:
        DoesNotFitError: the device's memory is too small.
        NonFiniteLossError: the loss is not finite; the message names the step.
    """
    waiting: list[Step] = []
    num_seeds = 0
    for steps in searched(problem, seed, budget, settings.search):
        if (yield from until_accepted(problem, best_of(steps))):
            return
        # A confirmed candidate that was not accepted has a loss of 0; one without a finite loss has no gradient.
        nearest = (s for s in (*waiting, *steps) if not s.confirmed and s.rank > -math.inf)
        waiting = sorted(nearest, key=lambda s: s.rank, reverse=True)[:MOST_WAITING]
        # None of these seeds was accepted, so by the rule of succession the next is with probability 1 / (n + 1).
        num_seeds += len(steps)
        # A refinement needs an evaluation, its gradient and another evaluation; with less budget, seeds are searched.
        if problem.backbone.seeds_only or not waiting or budget.evaluations_left < COST_WITH_GRADIENT + 1:
            continue
        if num_seeds + 1 > settings.refinement_cost * (1 - SAVED * waiting[0].probability):
            start = waiting.pop(0)
            num_seeds = 0
            refined = refine(problem, start.latents[None], [start.seed], budget, settings.refinement)
            if (yield from until_accepted(problem, refined)):
                return
