"""Accuracy against compute: the fraction right by evaluations and seconds, and the cost of the first right image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

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


@dataclass(frozen=True)
class FirstRight:
    """The cost until the first judge agrees with the best candidate.

    Attributes:
        images: number of all images.
        never: number of images with which it never agrees.
        evaluations, seconds: medians over all images; infinite where half are never right, NaN without images or where
            the seconds of an image are unknown.
    """

    images: int
    never: int
    evaluations: float
    seconds: float


def compute_curve(records: Sequence[Record], axis: str) -> Curve:
    """Return the fraction right against compute, by the first judge.

    Args:
        records: of one method; failed images are never right.
        axis: "evaluations" or "seconds".

    Raises:
        ValueError: another axis.
    """
    if axis not in ("evaluations", "seconds"):
        raise ValueError(f'axis must be "evaluations" or "seconds", got {axis!r}')
    if axis == "seconds" and not _is_timed(records):
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


def first_right(records: Sequence[Record]) -> FirstRight:
    """Return the cost until the best candidate is right, by the first judge."""
    firsts = [next(((e, s or 0.0) for e, s, right in r.trace if right), (math.inf, math.inf)) for r in records]
    if not firsts:
        return FirstRight(0, 0, math.nan, math.nan)
    return FirstRight(
        images=len(firsts),
        never=sum(math.isinf(evaluations) for evaluations, _ in firsts),
        evaluations=median(evaluations for evaluations, _ in firsts),
        seconds=median(seconds for _, seconds in firsts) if _is_timed(records) else math.nan,
    )


def _is_timed(records: Sequence[Record]) -> bool:
    return all(record.seconds is not None for record in records)
