import math
from itertools import product
from statistics import NormalDist

import numpy as np
import pytest

from countgen.benchmarks.evaluation.statistics import (
    NUM_RESAMPLES,
    Duel,
    cluster_bootstrap,
    cohen_kappa,
    duel,
    holm,
    wilson_interval,
)

pytestmark = pytest.mark.core


def test_intervals_and_tests_are_those_of_the_closed_forms() -> None:
    z = NormalDist().inv_cdf(0.975)
    for successes, trials in product(range(0, 41, 4), (40, 41, 97)):
        share, scale = successes / trials, 1 + z * z / trials
        centre = share + z * z / (2 * trials)
        half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
        expected = (centre - half) / scale, (centre + half) / scale
        assert wilson_interval(successes, trials) == pytest.approx(expected, abs=1e-12)
    assert wilson_interval(81, 263) == pytest.approx((0.25526, 0.36617), abs=6e-5)  # published
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert duel([], []) == Duel(0, 0, 0, 1.0)
    for won, lost in product(range(0, 30, 3), repeat=2):
        tail = sum(math.comb(won + lost, k) for k in range(min(won, lost) + 1))
        expected_p = min(1.0, 2 * tail / 2 ** (won + lost))
        paired = duel([1] * won + [0] * lost + [1, 0], [0] * won + [1] * lost + [1, 0])
        assert (paired.cases, paired.won, paired.lost) == (won + lost + 2, won, lost)
        assert paired.p_value == pytest.approx(expected_p)


def test_holm_agrees_with_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_kappa_agrees_with_its_definition() -> None:
    # 20 both yes, 5 and 10 apart, 15 both no: observed 0.7, chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5.
    first = [1] * 25 + [0] * 25
    assert cohen_kappa(first, [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15) == pytest.approx(0.4, abs=1e-12)
    assert cohen_kappa([1, 2, 3], [1, 2, 3]) == 1.0
    assert math.isnan(cohen_kappa([3, 3], [3, 3]))
    assert math.isnan(cohen_kappa([], []))


def test_bootstrap_agrees_with_a_loop_that_copies_clusters_and_repeats() -> None:
    generator = np.random.default_rng(1)
    clusters = np.repeat(np.arange(12), generator.integers(1, 6, size=12))
    values = generator.random(len(clusters)) + 0.2 * clusters
    means = []
    for _ in range(NUM_RESAMPLES // 2):
        resampled = [values[clusters == cluster] for cluster in generator.integers(0, 12, size=12)]
        means.append(np.concatenate(resampled).mean())
    low, high = cluster_bootstrap(values, clusters)
    assert (low, high) == pytest.approx(tuple(np.quantile(means, (0.025, 0.975))), abs=0.06 * (high - low))
    assert (low, high) == cluster_bootstrap(values, clusters)
