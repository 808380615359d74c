"""Intervals and tests for shares of right images; pure functions on numpy arrays."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a share, in [0, 1]; (0, 1) without trials.

    Unlike the normal approximation it stays inside [0, 1] and is not empty at 0 or 100 %.

    Raises:
        ValueError: successes outside 0..trials, or a confidence outside (0, 1).

    Source: Wilson 1927.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must be from 0 to trials, got {successes} of {trials}")
    z = NormalDist().inv_cdf(0.5 + _checked(confidence) / 2)
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    # At the ends the two terms are equal up to rounding; the closed form there is exactly 0 or 1.
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == trials else (centre + half) / scale
    return low, high


def mcnemar_exact(first: ArrayLike, second: ArrayLike) -> float:
    """Two-sided exact McNemar test of two methods on the same cases: the p-value, in (0, 1].

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
    differing = only_first + only_second
    # Whole numbers up to the one division: no underflow, however many cases differ.
    tail = sum(math.comb(differing, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**differing)


def cluster_bootstrap(
    values: ArrayLike,
    clusters: ArrayLike,
    *,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a mean whose cases come in clusters, by drawing whole clusters with replacement.

    Seeds of one prompt are alike; an interval over single images would be too narrow.

    Args:
        values: (N,) numbers: right or wrong, an error, or a paired difference of two methods.
        clusters: (N,) labels, the prompt of each case.
        confidence: in (0, 1).
        num_resamples: draws; the ends move by about 1 % of the width between seeds at 10 000.
        seed: of the draws.

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
    # How often each cluster is drawn says all; (num_resamples, clusters) draws need no copy of the values.
    number = len(sizes)
    times = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=num_resamples)
    means = (times @ sums) / (times @ sizes)
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    return confidence
