"""Accuracy against compute: the fraction right by evaluations and by seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from countgen.benchmarks.evaluation.records import Record


@dataclass(frozen=True)
class Curve:
    """The fraction of images whose best candidate is right when stopped at a budget: a step function.

    Attributes:
        budgets: (K,) ascending, evaluations or seconds; starts at 0.
        shares: (K,) in [0, 1], from each budget up to the next; NaN without images.
        images: their number; 0 on the axis of seconds if those of an image are unknown.
    """

    budgets: NDArray[np.float64]
    shares: NDArray[np.float64]
    images: int

    def at(self, budget: float) -> float:
        """Return the fraction right at a budget of 0 or more."""
        return float(self.shares[np.searchsorted(self.budgets, budget, side="right") - 1])


def compute_curve(records: Sequence[Record], axis: str) -> Curve:
    """Return the fraction right against compute, by the first judge.

    Args:
        records: of one method; failed images are never right.
        axis: "evaluations" or "seconds".
    """
    if axis == "seconds" and any(record.seconds is None for record in records):
        records = ()
    changes: list[tuple[float, int]] = [(0.0, 0)]
    for record in records:
        before = False
        for evaluations, seconds, right in record.trace:
            if right != before:
                changes.append((evaluations if axis == "evaluations" else seconds or 0.0, 1 if right else -1))
            before = right
    budgets, index = np.unique([budget for budget, _ in changes], return_inverse=True)
    right_now = np.cumsum(np.bincount(index, weights=[change for _, change in changes]))
    return Curve(budgets.astype(float), right_now / (len(records) or math.nan), len(records))
