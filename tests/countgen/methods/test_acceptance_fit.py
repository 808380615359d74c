"""P(right) is fitted to what a judge says, and never more certain than the number of images allows."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from countgen.critics import Critic
from countgen.methods.acceptance import HIGHEST, LOWEST, Evidence, Prior
from countgen.methods.acceptance_fit import fit_acceptance, fit_evidence
from countgen.prompts import Target

pytestmark = pytest.mark.core

FIRST, SECOND = (Critic(torch.nn.Identity(), ["cat"], name=name) for name in ("first", "second"))
CRITICS = (FIRST, FIRST, SECOND, SECOND)
CAT = (Target("cat", 2),)


def test_the_fit_recovers_known_coefficients_and_never_falls_as_a_margin_grows() -> None:
    generator, known = torch.Generator().manual_seed(0), Evidence(intercept=-0.5, below=1.5, above=2.0)
    margins = torch.rand(20_000, 3, generator=generator, dtype=torch.float64) * (HIGHEST - LOWEST) + LOWEST
    offsets = 2 * torch.rand(20_000, generator=generator, dtype=torch.float64) - 1
    right = torch.rand(20_000, generator=generator) < (known.log_ratio(margins) + offsets).sigmoid()
    fitted, against = fit_evidence(margins, right, offsets), fit_evidence(margins, ~right, -offsets)
    assert (fitted.intercept, fitted.below, fitted.above) == pytest.approx((-0.5, 1.5, 2.0), abs=0.15)
    assert (against.below, against.above) == (0, 0)


def test_the_prior_is_recovered_and_a_single_class_leaves_the_default() -> None:
    generator, known = torch.Generator().manual_seed(0), Prior(intercept=2.5, count=-1.4, classes=-1.0)
    one = [(Target("cat", 1 + index % 16),) for index in range(8000)]
    two = [(Target("cat", 1 + index % 6), Target("dog", 1 + index % 5)) for index in range(8000)]
    prompts = one + two
    log_odds = torch.tensor([known.log_odds(targets) for targets in prompts])
    right = torch.rand(16_000, generator=generator) < log_odds.sigmoid()
    margins = torch.randn(16_000, 4, generator=generator, dtype=torch.float64)
    prior = fit_acceptance(margins, right, CRITICS, prompts).prior
    assert (prior.intercept, prior.count, prior.classes) == pytest.approx((2.5, -1.4, -1.0), abs=0.15)
    single = fit_acceptance(margins[:8000], right[:8000], CRITICS, one).prior
    assert single.classes == Prior().classes
    assert single.count == pytest.approx(-1.4, abs=0.15)


@pytest.mark.parametrize("verdict", [True, False])
def test_verdicts_that_are_all_equal_are_an_error_that_says_what_to_do(verdict: bool) -> None:
    margins = torch.zeros(5, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"of the 5 images right.*--images"):
        fit_acceptance(margins, torch.full((5,), verdict), CRITICS, [CAT] * 5)


def test_a_margin_that_is_not_a_number_is_an_error_that_says_what_to_do() -> None:
    margins = torch.zeros(5, 4, dtype=torch.float64)
    margins[2, 1] = math.nan
    with pytest.raises(ValueError, match=r"1 of 5 images.*--dtype float32"):
        fit_acceptance(margins, torch.arange(5) < 3, CRITICS, [CAT] * 5)


def test_critics_of_other_units_count_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    margins = torch.randn(800, 4, generator=generator, dtype=torch.float64)
    right = margins.mean(1) > 0
    larger = margins * torch.tensor([1.0, 1.0, 20.0, 20.0])
    same, fitted = (fit_acceptance(data, right, CRITICS, [CAT] * 800) for data in (margins, larger))
    assert fitted.scales["second"] == pytest.approx(20 * same.scales["second"])
    assert fitted.views.above == pytest.approx(same.views.above, rel=1e-3)


values = st.floats(-100, 100) | st.sampled_from([math.inf, -math.inf, 0.0])
images = st.lists(st.tuples(st.lists(values, min_size=4, max_size=4), st.booleans()), min_size=1, max_size=30)


@given(images)
def test_it_is_no_more_certain_than_the_number_of_right_images_allows(data: list[tuple[list[float], bool]]) -> None:
    margins = torch.tensor([row for row, _ in data], dtype=torch.float64)
    right = torch.tensor([verdict for _, verdict in data])
    assume(0 < right.sum() < len(right))
    acceptance = fit_acceptance(margins, right, CRITICS, [CAT] * len(right))
    best, number = torch.full((1, 4), 1e9, dtype=torch.float64), int(right.sum())
    for evidence in (acceptance.first, acceptance.plain, acceptance.views):
        assert acceptance.probability(evidence, best, CRITICS, CAT) <= (number + 1) / (number + 2) + 1e-6
