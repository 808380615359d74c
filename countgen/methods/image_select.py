"""The image with the lowest loss of N seeds: the option `imageselect` of ReNO's code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from countgen.critics import losses
from countgen.critics.losses import CountLoss
from countgen.methods.evaluation import evaluate_latents
from countgen.methods.objective import PLAIN_VIEW
from countgen.methods.problem import Problem
from countgen.methods.seeds import SEED_STRIDE
from countgen.methods.settings import Settings, setting
from countgen.methods.step import SEARCH, Budget, Step

SEEDS_ONLY = True
"""No gradient is needed, see `countgen.methods.registry`."""


@dataclass(frozen=True)
class ImageSelectSettings(Settings):
    """Settings of the selection."""

    num_seeds: int = setting(50, "as many as the iterations of ReNO's loop", at_least=1)
    loss: str | CountLoss = setting("d2d", "the count loss", choices=losses.available(), or_function=True)


def image_select(problem: Problem, seed: int, budget: Budget, settings: ImageSelectSettings) -> Iterator[Step]:
    """Evaluate all of N seeds, and keep the image with the lowest loss.

    Yields:
        The step with the lowest loss so far, with what the run has cost so far. None is accepted before the last.

    Source: Eyring et al. 2024 (ReNO).
    """
    objective = problem.objective(PLAIN_VIEW, settings.loss)
    best: Step | None = None
    for number in range(settings.num_seeds):
        latents = problem.backbone.initial_latents([seed + number * SEED_STRIDE])
        (step,) = evaluate_latents(problem, objective, latents, seed + number * SEED_STRIDE, budget, SEARCH)
        if best is None or step.loss < best.loss:
            best = step
        best = replace(best, index=step.index, evaluations=step.evaluations, seconds=step.seconds)
        last = number == settings.num_seeds - 1 or not budget.left
        if last:
            problem.accept(best)
        yield best
        if last:
            return
