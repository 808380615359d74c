"""Best of N seeds, as ten lines of user code do it: the baseline of `search`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from countgen.methods.evaluation import evaluate_latents
from countgen.methods.objective import PLAIN_VIEW
from countgen.methods.problem import Problem
from countgen.methods.seeds import SEED_STRIDE
from countgen.methods.settings import Settings, setting
from countgen.methods.step import SEARCH, Budget, Step

SEEDS_ONLY = True
"""No gradient is needed, see `countgen.methods.registry`."""


@dataclass(frozen=True)
class BestOfNSettings(Settings):
    """Settings of the baseline."""

    num_critics: int = setting(1, "critics that must count right, the first ones", at_least=1)


def best_of_n(problem: Problem, seed: int, budget: Budget, settings: BestOfNSettings) -> Iterator[Step]:
    """Evaluate one seed after the other until the first critics count right, however close."""
    objective = replace(problem.objective(PLAIN_VIEW, "margin"), critics=problem.critics[: settings.num_critics])
    while budget.left:
        (step,) = evaluate_latents(problem, objective, problem.backbone.initial_latents([seed]), seed, budget, SEARCH)
        accepted = problem.accept(step)
        yield step
        if accepted or step.margin > 0:
            return
        seed += SEED_STRIDE
