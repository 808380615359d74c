"""Confidence intervals, tests and agreement of counts and of fractions: pure functions, by SciPy where it has them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

NUM_RESAMPLES = 10_000
"""Number of bootstrap resamples; the ends of an interval differ by about 1 % of its width between seeds."""
_BLOCK = 4_000_000
"""Numbers of a block of resamples, to bound the memory."""


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a fraction, in [0, 1]; (0, 1) without trials.

    Unlike the normal approximation it lies within [0, 1] and is not empty at 0 or 100 %.

    Source: Wilson 1927.
    """
    if trials == 0:
        return 0.0, 1.0
    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class Duel:
    """The paired comparison of two methods on the same cases.

    Attributes:
        cases: their number.
        won, lost: cases in which only the first, only the second is right.
        p_value: of the two-sided exact McNemar test, in (0, 1].
    """

    cases: int
    won: int
    lost: int
    p_value: float


def duel(first: ArrayLike, second: ArrayLike) -> Duel:
    """Compare two methods on the same cases by the two-sided exact McNemar test.

    Only cases where the methods differ carry information; under the null hypothesis each goes either way with
    probability 1/2, so the p-value is a binomial tail.

    Args:
        first, second: (N,) booleans, right or wrong; the same case at the same place.

    Source: McNemar 1947, exact form.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    won, lost = int((a & ~b).sum()), int((b & ~a).sum())
    p_value = float(binomtest(won, won + lost, 0.5).pvalue) if won + lost else 1.0
    return Duel(len(a), won, lost, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for multiple comparisons (Holm), in the order given.

    Source: Holm 1979, step-down.
    """
    adjusted, floor = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = floor
    return adjusted


def cohen_kappa(first: ArrayLike, second: ArrayLike) -> float:
    """Return the unweighted agreement of two raters beyond chance: 1 is perfect, 0 is chance, below 0 is worse.

    NaN where the agreement by chance is 1 (both raters always give one category), and without cases.

    Args:
        first, second: (N,) categories, for example counts; the same case at the same place.

    Source: Cohen 1960.
    """
    a, b = np.asarray(first), np.asarray(second)
    if not len(a):
        return math.nan
    _, index = np.unique(np.concatenate([a, b]), return_inverse=True)
    number = int(index.max()) + 1
    # Whole numbers until the end, so that perfect agreement is exactly 1.
    chance = int(np.bincount(index[: len(a)], minlength=number) @ np.bincount(index[len(a) :], minlength=number))
    agreeing, every = int((a == b).sum()) * len(a), len(a) ** 2
    return math.nan if chance == every else (agreeing - chance) / (every - chance)


def cluster_bootstrap(values: ArrayLike, clusters: ArrayLike) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a mean of clustered cases, by resampling whole clusters.

    Seeds of one prompt are correlated; an interval over single images would be too narrow.

    Args:
        values: (N,) numbers, N at least 1: right or wrong, an error, or a paired difference of two methods.
        clusters: (N,) labels, the prompt of each case.

    Source: Davison & Hinkley 1997, section 3.8.
    """
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums, sizes = np.bincount(index, weights=np.asarray(values, dtype=float)), np.bincount(index)
    # The number of times that each cluster is resampled is enough: no copy of the values is needed. Clusters of equal
    # sum and size are counted together, since right or wrong images give few of them.
    number, generator = len(sizes), np.random.default_rng(0)
    _, kinds, members = np.unique(np.stack([sums, sizes]), axis=1, return_index=True, return_counts=True)
    order = np.argsort(kinds)
    sums, sizes, shares = sums[kinds[order]], sizes[kinds[order]], members[order] / number
    block = max(1, _BLOCK // len(shares))
    means = []
    for start in range(0, NUM_RESAMPLES, block):
        times = generator.multinomial(number, shares, size=min(block, NUM_RESAMPLES - start))
        means.append((times @ sums) / (times @ sizes))
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return float(low), float(high)
