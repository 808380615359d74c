import math
import tracemalloc
from itertools import product
from statistics import NormalDist

import numpy as np
import pytest

from countgen.benchmarks.evaluation.statistics import (
    Duel,
    cluster_bootstrap,
    cohen_kappa,
    duel,
    holm,
    mcnemar_exact,
    rate,
    wilson_interval,
)


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


def test_intervals_and_tests_are_those_of_the_closed_forms() -> None:
    z = NormalDist().inv_cdf(0.975)
    for successes, trials in product(range(0, 41, 4), (40, 41, 97)):
        share, scale = successes / trials, 1 + z * z / trials
        centre = share + z * z / (2 * trials)
        half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
        expected = (centre - half) / scale, (centre + half) / scale
        assert wilson_interval(successes, trials) == pytest.approx(expected, abs=1e-12)
    for won, lost in product(range(0, 30, 3), repeat=2):
        tail = sum(math.comb(won + lost, k) for k in range(min(won, lost) + 1))
        expected_p = min(1.0, 2 * tail / 2 ** (won + lost))
        assert mcnemar_exact([True] * won + [False] * lost, [False] * won + [True] * lost) == pytest.approx(expected_p)


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
    assert duel([True, False], [True, False]) == Duel(2, 0, 0, 1.0)
    assert mcnemar_exact([], []) == 1.0


def test_mcnemar_is_symmetric_and_survives_many_cases() -> None:
    first = np.arange(5000) < 3500
    second = ~first
    assert mcnemar_exact(first, second) == mcnemar_exact(second, first)
    assert 0 < mcnemar_exact(first, second) < 1e-150


def test_mcnemar_refuses_unpaired_cases() -> None:
    with pytest.raises(ValueError, match="same length"):
        mcnemar_exact([True], [True, False])


def test_a_duel_counts_who_won_what() -> None:
    found = duel([1, 1, 1, 0, 0], [1, 0, 0, 1, 0])
    assert (found.cases, found.won, found.lost) == (5, 2, 1)


def test_holm_agrees_with_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_rate_says_share_and_interval() -> None:
    assert rate([True] * 9 + [False]) == "90 [60, 98]"
    assert rate([]) == "-"


def test_kappa_agrees_with_the_closed_form_of_a_two_by_two_table() -> None:
    # 20 both yes, 5 and 10 apart, 15 both no: observed 0.7, chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5.
    first = [1] * 25 + [0] * 25
    second = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4, abs=1e-12)


def test_kappa_of_many_categories_agrees_with_its_definition() -> None:
    generator = np.random.default_rng(6)
    first = generator.integers(0, 7, size=300)
    second = np.where(generator.random(300) < 0.6, first, generator.integers(0, 9, size=300))
    observed = np.mean(first == second)
    chance = sum(np.mean(first == k) * np.mean(second == k) for k in range(9))
    assert cohen_kappa(first, second) == pytest.approx((observed - chance) / (1 - chance))
    assert cohen_kappa(first, first) == 1.0


def test_kappa_is_unknown_where_chance_agrees_always() -> None:
    assert math.isnan(cohen_kappa([3, 3], [3, 3]))
    assert math.isnan(cohen_kappa([], []))


def test_kappa_refuses_unpaired_cases() -> None:
    with pytest.raises(ValueError, match="same length"):
        cohen_kappa([1], [1, 2])


def test_bootstrap_of_many_clusters_keeps_the_memory_bounded() -> None:
    values = np.random.default_rng(4).random(20_000)
    tracemalloc.start()
    try:
        low, high = cluster_bootstrap(values, np.arange(20_000), num_resamples=1_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.49 < low < 0.5 < high < 0.51
    assert peak < 130 * 2**20  # all draws at once would take 160 MB


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
