"""The pipeline alone: the image of one seed, without search or gradient."""

from __future__ import annotations

from collections.abc import Iterator

from countgen.methods.problem import Problem
from countgen.methods.seeds import evaluate_seeds
from countgen.methods.settings import Settings
from countgen.methods.step import Budget, Step

SEEDS_ONLY = True
"""No gradient is needed, see `countgen.methods.registry`."""


def plain(problem: Problem, seed: int, budget: Budget, settings: Settings) -> Iterator[Step]:
    """Evaluate the image of the given seed."""
    (step,) = evaluate_seeds(problem, [seed], budget)
    problem.accept(step)
    yield step
