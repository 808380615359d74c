"""Gradient descent on the weights of D2D's latent modifier network, for one seed after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from countgen.methods.latent_modifier import LatentModifier
from countgen.methods.problem import Problem
from countgen.methods.refinement import RefinementSettings, refine_seeds
from countgen.methods.settings import setting
from countgen.methods.step import Budget, Step


@dataclass(frozen=True)
class LMNSettings(RefinementSettings):
    """Settings of the descent: D2D's sharpened prior, and a rate chosen on tuning seeds, see docs/results.md."""

    learning_rate: float = setting(1e-3, "of the optimizer, on the weights of the network", above=0)
    prior_power: float = setting(10.0, "exponent of the prior's density, 10 in D2D", at_least=0)
    original_share: float = setting(
        0.2,
        "fraction of the original noise in the output; at 0 counts are best and patches remain",
        at_least=0,
        below=1,
    )


def lmn(problem: Problem, seed: int, budget: Budget, settings: LMNSettings) -> Iterator[Step]:
    """Let a small network modify the noise of one seed after the other (D2D's latent modifier network).

    Raises:
        NonFiniteLossError: the loss is not finite; the message names the step.

    Source: D2D (arXiv 2510.19278).
    """
    start = partial(LatentModifier, original_share=settings.original_share)
    return refine_seeds(problem, seed, budget, settings, start)
