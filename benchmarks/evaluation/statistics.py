"""Confidence intervals, tests and agreement of counts and of fractions: pure functions, by SciPy where it has them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a fraction, in [0, 1]; (0, 1) without trials.

    Unlike the normal approximation it lies within [0, 1] and is not empty at 0 or 100 %.

    Raises:
        ValueError: successes outside 0..trials, or a confidence outside (0, 1).

    Source: Wilson 1927.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must be from 0 to trials, got {successes} of {trials}")
    _checked(confidence)
    if trials == 0:
        return 0.0, 1.0
    # Imported where it is used: it takes a second to load.
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def rate(hits: Sequence[bool]) -> str:
    """Return a percentage with its 95 % Wilson interval, "97 [92, 99]"; "-" without cases."""
    if not hits:
        return "-"
    low, high = wilson_interval(sum(hits), len(hits))
    return f"{100 * sum(hits) / len(hits):.0f} [{100 * low:.0f}, {100 * high:.0f}]"


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
    """Compare two methods on the same cases by the exact McNemar test; takes what `mcnemar_exact` takes."""
    p_value = mcnemar_exact(first, second)
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    return Duel(len(a), int((a & ~b).sum()), int((b & ~a).sum()), p_value)


def mcnemar_exact(first: ArrayLike, second: ArrayLike) -> float:
    """Return the p-value of the two-sided exact McNemar test of two methods on the same cases, in (0, 1].

    Only cases where the methods differ carry information; under the null hypothesis each goes either way with
    probability 1/2, so the p-value is a binomial tail.

    Args:
        first, second: (N,) booleans, right or wrong; the same case at the same place.

    Raises:
        ValueError: different lengths, or more than one dimension.

    Source: McNemar 1947, exact form.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"expected two lists of the same length, got shapes {a.shape} and {b.shape}")
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    if not only_first + only_second:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


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

    Raises:
        ValueError: different lengths, or more than one dimension.

    Source: Cohen 1960.
    """
    a, b = np.asarray(first), np.asarray(second)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"expected two lists of the same length, got shapes {a.shape} and {b.shape}")
    if not len(a):
        return math.nan
    _, index = np.unique(np.concatenate([a, b]), return_inverse=True)
    number = int(index.max()) + 1
    # Whole numbers until the end, so that perfect agreement is exactly 1.
    chance = int(np.bincount(index[: len(a)], minlength=number) @ np.bincount(index[len(a) :], minlength=number))
    agreeing, every = int((a == b).sum()) * len(a), len(a) ** 2
    return math.nan if chance == every else (agreeing - chance) / (every - chance)


def cluster_bootstrap(
    values: ArrayLike,
    clusters: ArrayLike,
    *,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean of clustered cases, by resampling whole clusters.

    Seeds of one prompt are correlated; an interval over single images would be too narrow.

    Args:
        values: (N,) numbers: right or wrong, an error, or a paired difference of two methods.
        clusters: (N,) labels, the prompt of each case.
        confidence: in (0, 1).
        num_resamples: number of resamples; at 10 000 the ends differ by about 1 % of the width between seeds.
        seed: of the resampling.

    Raises:
        ValueError: no cases, different lengths, or a confidence outside (0, 1).

    Source: Davison & Hinkley 1997, section 3.8.
    """
    numbers, labels = np.asarray(values, dtype=float), np.asarray(clusters)
    if numbers.ndim != 1 or numbers.shape != labels.shape or not len(numbers):
        raise ValueError(f"expected one cluster per value, at least one, got {numbers.shape} and {labels.shape}")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}")
    tail = (1 - _checked(confidence)) / 2
    _, index = np.unique(labels, return_inverse=True)
    sums, sizes = np.bincount(index, weights=numbers), np.bincount(index)
    # The number of times that each cluster is resampled is enough: no copy of the values is needed. Clusters of equal
    # sum and size are counted together, since right or wrong images give few of them. Resamples are computed in
    # blocks to bound the memory.
    number, generator = len(sizes), np.random.default_rng(seed)
    _, kinds, members = np.unique(np.stack([sums, sizes]), axis=1, return_index=True, return_counts=True)
    order = np.argsort(kinds)
    sums, sizes, shares = sums[kinds[order]], sizes[kinds[order]], members[order] / number
    block = max(1, 4_000_000 // len(shares))
    means = []
    for start in range(0, num_resamples, block):
        resamples = min(block, num_resamples - start)
        times = generator.multinomial(number, shares, size=resamples)
        means.append((times @ sums) / (times @ sizes))
    low, high = np.quantile(np.concatenate(means), (tail, 1 - tail))
    return float(low), float(high)


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    return confidence
