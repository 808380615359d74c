"""Gradient descent on the initial noise, for one seed after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from countgen.methods.problem import Problem
from countgen.methods.refinement import RefinementSettings, refine_seeds
from countgen.methods.step import Budget, Step


@dataclass(frozen=True)
class NoiseSettings(RefinementSettings):
    """Settings of the descent."""


def noise(problem: Problem, seed: int, budget: Budget, settings: NoiseSettings) -> Iterator[Step]:
    """Move the initial noise of one seed after the other down the gradient.

    Raises:
        NonFiniteLossError: the loss is not finite; the message names the step.
    """
    return refine_seeds(problem, seed, budget, settings)
