"""Coverage of the intervals of corrected accuracies.

Runs are simulated: images are truly right with a given probability, and the judge errs with given rates. People label a
random part of the run's own images, or as many other images, half of which are right. The interval must contain the
true accuracy in 95 % of the runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from countgen.benchmarks.evaluation.calibration import JudgeErrors, corrected, corrected_by

IMAGES = 600


@dataclass(frozen=True)
class Judge:
    """A simulated judge: probabilities of being right about right and about wrong images."""

    sensitivity: float
    specificity: float

    def finds_right(self, right: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
        """Return which images the judge finds right, (N,), of images that are right or not, (N,)."""
        chance = rng.random(len(right))
        return np.where(right, chance < self.sensitivity, chance >= self.specificity)


def coverage(accuracy: float, judge: Judge, labels: int, runs: int, *, own: bool, seed: int = 0) -> tuple[float, float]:
    """Simulate runs of `IMAGES` images.

    Args:
        accuracy: probability that an image is truly right.
        judge: of all images.
        labels: number of images that people label.
        runs: to simulate.
        own: whether the labelled images are of the run.
        seed: of the simulation.

    Returns:
        Fraction of the runs whose interval contains the accuracy, and the mean error of the corrected accuracy.
    """
    rng = np.random.default_rng(seed)
    covered, error = 0, 0.0
    for _ in range(runs):
        right = rng.random(IMAGES) < accuracy
        found = judge.finds_right(right, rng)
        known = right[:labels] if own else rng.random(labels) < 0.5
        said = found[:labels] if own else judge.finds_right(known, rng)
        errors = JudgeErrors(
            int(known.sum()), int((known & said).sum()), int((~known).sum()), int((~known & ~said).sum())
        )
        one = (corrected if own else corrected_by)(int(found.sum()), IMAGES, errors)
        covered += one.low <= accuracy <= one.high
        error += one.accuracy - accuracy
    return covered / runs, error / runs
