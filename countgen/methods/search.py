"""Best of N seeds: the baseline that every method must beat at equal cost."""

from __future__ import annotations

from collections.abc import Iterator

from countgen.methods.problem import Problem
from countgen.methods.seeds import SearchSettings, best_of, searched, until_accepted
from countgen.methods.step import Budget, Step

CALIBRATED = True
"""Counts beyond the model's number words are encoded by its calibration, see `countgen.methods.registry`."""
SEEDS_ONLY = True
"""No gradient is needed, see `countgen.methods.registry`."""


def search(problem: Problem, seed: int, budget: Budget, settings: SearchSettings) -> Iterator[Step]:
    """Evaluate batches of seeds until one is accepted or the budget is spent.

    Yields:
        The confirmed steps of each batch; the best one if there are none.

    Raises:
        NonFiniteLossError: no loss of a batch is finite; the message names the step.
    """
    for steps in searched(problem, seed, budget, settings):
        if (yield from until_accepted(problem, best_of(steps))):
            return
