"""Best of N seeds: the baseline that every method must beat at equal cost."""

from __future__ import annotations

from collections.abc import Iterator

from countgen.methods.problem import Problem
from countgen.methods.seeds import SearchSettings, best_and_confirmed, evaluate_seeds
from countgen.methods.step import Budget, Step

CALIBRATED = True
"""Counts beyond the model's number words are encoded by its calibration, see `countgen.methods.registry`."""


def search(problem: Problem, seed: int, budget: Budget, settings: SearchSettings) -> Iterator[Step]:
    """Evaluate batches of seeds until one is accepted or the budget is spent.

    Yields:
        The best `Step` of each batch, and every other one that is confirmed.

    Raises:
        NonFiniteLossError: no loss of a batch is finite; the message names the step.
    """
    for index, seeds in enumerate(settings.batches(seed)):
        affordable = seeds[: budget.evaluations_left]
        steps = evaluate_seeds(problem, affordable, budget, settings.views, index)
        for step in best_and_confirmed(steps):
            accepted = problem.accept(step)
            yield step
            if accepted:
                return
        if not budget.left:
            return
