"""A method: evaluate seeds in pairs."""

from collections.abc import Iterator
from dataclasses import dataclass

from countgen.methods.problem import Problem
from countgen.methods.seeds import SEED_STRIDE, best_of, evaluate_seeds, until_accepted
from countgen.methods.settings import Settings, setting
from countgen.methods.step import Budget, Step


@dataclass(frozen=True)
class PairsSettings(Settings):
    """How pairs of seeds are evaluated."""

    most_pairs: int = setting(10, "pairs evaluated at most", at_least=1)


def pairs(problem: Problem, seed: int, budget: Budget, settings: PairsSettings) -> Iterator[Step]:
    """Evaluate seeds in pairs until one is accepted."""
    for index in range(settings.most_pairs):
        seeds = [seed + (2 * index + k) * SEED_STRIDE for k in range(2)][: budget.evaluations_left]
        steps = best_of(evaluate_seeds(problem, seeds, budget))
        if (yield from until_accepted(problem, steps)) or not budget.left:
            return
