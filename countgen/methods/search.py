"""Best of N seeds: the baseline that every method must beat at equal cost."""

from __future__ import annotations

from collections.abc import Iterator

from countgen.methods.problem import Problem
from countgen.methods.seeds import SearchSettings, evaluate_seeds, worth_showing
from countgen.methods.step import Budget, Step


def search(problem: Problem, seed: int, budget: Budget, settings: SearchSettings) -> Iterator[Step]:
    """Evaluate batches of seeds until one is accepted or the budget is spent.

    Yields:
        The best `Step` of each batch, and whatever else in it is confirmed.

    Raises:
        NonFiniteLossError: no loss of a batch is finite; the message names the step.
    """
    for index, seeds in enumerate(settings.batches(seed)):
        affordable = seeds[: budget.evaluations_left]
        steps = evaluate_seeds(problem, affordable, budget, settings.views, index)
        for step in worth_showing(steps):
            accepted = problem.accept(step)
            yield step
            if accepted:
                return
        if not budget.left:
            return
