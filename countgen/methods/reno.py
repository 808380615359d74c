"""ReNO's loop on a count loss: gradient descent on the initial noise of one seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from countgen.critics import losses
from countgen.critics.losses import CountLoss
from countgen.methods.objective import PLAIN_VIEW, View
from countgen.methods.problem import Problem
from countgen.methods.refinement import OPTIMIZERS, RefinementSettings, refine
from countgen.methods.seeds import until_accepted
from countgen.methods.settings import setting
from countgen.methods.step import Budget, Step


@dataclass(frozen=True)
class RenoSettings(RefinementSettings):
    """Settings of the descent: the published ones, and the count loss of D2D."""

    num_optimization_steps: int = setting(50, "gradient steps", at_least=1)
    learning_rate: float = setting(5.0, "of the optimizer, on latents of unit variance", above=0)
    optimizer: str = setting("sgd", "sgd has Nesterov momentum 0.9", choices=tuple(OPTIMIZERS))
    loss: str | CountLoss = setting("d2d", "the count loss", choices=losses.available(), or_function=True)
    max_grad_norm: float = setting(0.1, "each latent's gradient is scaled down to this norm", above=0)
    views: tuple[View, ...] = PLAIN_VIEW


def reno(problem: Problem, seed: int, budget: Budget, settings: RenoSettings) -> Iterator[Step]:
    """Move the initial noise of one seed down the gradient, as ReNO does.

    Unlike the source, it ends early when a count is confirmed.

    Raises:
        NonFiniteLossError: the loss is not finite; the message names the step.

    Source: Eyring et al. 2024 (ReNO).
    """
    latents = problem.backbone.initial_latents([seed])
    yield from until_accepted(problem, refine(problem, latents, [seed], budget, settings))
