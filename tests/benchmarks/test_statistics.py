import math
from itertools import product

import numpy as np
import pytest

from benchmarks.statistics import cluster_bootstrap, mcnemar_exact, wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [(0, 10, (0.0, 0.27753)), (10, 10, (0.72247, 1.0)), (5, 10, (0.23659, 0.76341)), (81, 263, (0.25526, 0.36617))],
)
def test_wilson_agrees_with_published_values(successes: int, trials: int, expected: tuple[float, float]) -> None:
    assert wilson_interval(successes, trials) == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize(("successes", "trials"), [(1, 7), (3, 9), (50, 100), (479, 480)])
def test_wilson_ends_are_where_the_score_test_just_rejects(successes: int, trials: int) -> None:
    share = successes / trials
    for end in wilson_interval(successes, trials, 0.95):
        z = abs(share - end) / math.sqrt(end * (1 - end) / trials)
        assert z == pytest.approx(1.959964, abs=1e-5)


def test_wilson_knows_nothing_without_trials() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "trials"), [(-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="from 0 to trials"):
        wilson_interval(successes, trials)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        wilson_interval(1, 2, confidence)


def test_mcnemar_agrees_with_enumeration_of_all_sign_flips() -> None:
    first = np.array([1, 1, 1, 1, 0, 0, 1, 0, 1, 1], dtype=bool)
    second = np.array([1, 0, 0, 1, 1, 0, 0, 0, 0, 0], dtype=bool)
    differences = (first.astype(int) - second.astype(int))[first != second]
    observed = abs(differences.sum())
    flips = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=len(differences))]
    assert mcnemar_exact(first, second) == pytest.approx(np.mean([flip >= observed for flip in flips]))


def test_mcnemar_of_equal_methods_is_one() -> None:
    assert mcnemar_exact([True, False], [True, False]) == 1.0
    assert mcnemar_exact([], []) == 1.0


def test_mcnemar_is_symmetric_and_survives_many_cases() -> None:
    first = np.arange(5000) < 3500
    second = ~first
    assert mcnemar_exact(first, second) == mcnemar_exact(second, first)
    assert 0 < mcnemar_exact(first, second) < 1e-150


def test_mcnemar_refuses_unpaired_cases() -> None:
    with pytest.raises(ValueError, match="same length"):
        mcnemar_exact([True], [True, False])


def test_bootstrap_agrees_with_a_loop_that_copies_clusters() -> None:
    generator = np.random.default_rng(1)
    clusters = np.repeat(np.arange(12), generator.integers(1, 6, size=12))
    values = generator.random(len(clusters)) + 0.2 * clusters
    means = []
    for _ in range(4000):
        drawn = [values[clusters == cluster] for cluster in generator.integers(0, 12, size=12)]
        means.append(np.concatenate(drawn).mean())
    expected = np.quantile(means, (0.05, 0.95))
    low, high = cluster_bootstrap(values, clusters, confidence=0.9, seed=2)
    assert (low, high) == pytest.approx(tuple(expected), abs=0.06 * (high - low))


def test_bootstrap_of_single_cases_has_the_width_of_the_normal_interval() -> None:
    values = np.random.default_rng(3).normal(size=400)
    low, high = cluster_bootstrap(values, np.arange(400))
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.05)


def test_alike_cases_of_a_cluster_widen_the_interval() -> None:
    values = np.tile(np.arange(20) % 2, (10, 1)).T.ravel()
    prompts = np.repeat([f"prompt {number}" for number in range(20)], 10)
    low, high = cluster_bootstrap(values, prompts)
    naive_low, naive_high = cluster_bootstrap(values, np.arange(200))
    assert high - low > 2.5 * (naive_high - naive_low)


def test_bootstrap_repeats_with_its_seed() -> None:
    arguments = ([1, 0, 1, 1], ["a", "a", "b", "c"])
    assert cluster_bootstrap(*arguments, seed=5) == cluster_bootstrap(*arguments, seed=5)


@pytest.mark.parametrize(("values", "clusters"), [([], []), ([1.0], ["a", "b"])])
def test_bootstrap_refuses_cases_without_clusters(values: list[float], clusters: list[str]) -> None:
    with pytest.raises(ValueError, match="one cluster per value"):
        cluster_bootstrap(values, clusters)
