"""P(right) is fitted to what a judge says, and never more certain than the number of images allows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from countgen.critics import Critic
from countgen.methods.acceptance import HIGHEST, LOWEST, Evidence
from countgen.methods.acceptance_fit import fit_acceptance, fit_evidence

pytestmark = pytest.mark.core

FIRST, SECOND = (Critic(torch.nn.Identity(), ["cat"], name=name) for name in ("first", "second"))
CRITICS = (FIRST, FIRST, SECOND, SECOND)


def test_the_fit_recovers_known_coefficients_and_never_falls_as_a_margin_grows() -> None:
    generator, known = torch.Generator().manual_seed(0), Evidence(intercept=-0.5, below=1.5, above=2.0)
    margins = torch.rand(20_000, 3, generator=generator, dtype=torch.float64) * (HIGHEST - LOWEST) + LOWEST
    right = torch.rand(20_000, generator=generator) < known.log_odds(margins).sigmoid()
    fitted, against = fit_evidence(margins, right), fit_evidence(margins, ~right)
    assert (fitted.intercept, fitted.below, fitted.above) == pytest.approx((-0.5, 1.5, 2.0), abs=0.15)
    assert (against.below, against.above) == (0, 0)


def test_critics_of_other_units_count_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    margins = torch.randn(800, 4, generator=generator, dtype=torch.float64)
    right = margins.mean(1) > 0
    larger = margins * torch.tensor([1.0, 1.0, 20.0, 20.0])
    same, fitted = (fit_acceptance(data, right, CRITICS) for data in (margins, larger))
    assert fitted.scales["second"] == pytest.approx(20 * same.scales["second"])
    assert fitted.views.above == pytest.approx(same.views.above, rel=1e-3)


values = st.floats(-100, 100) | st.sampled_from([float("inf"), float("-inf"), float("nan"), 0.0])
images = st.lists(st.tuples(st.lists(values, min_size=4, max_size=4), st.booleans()), min_size=1, max_size=30)


@given(images)
def test_it_is_no_more_certain_than_the_number_of_right_images_allows(data: list[tuple[list[float], bool]]) -> None:
    margins = torch.tensor([row for row, _ in data], dtype=torch.float64)
    right = torch.tensor([verdict for _, verdict in data])
    acceptance = fit_acceptance(margins, right, CRITICS)
    best, number = torch.full((1, 4), 1e9, dtype=torch.float64), int(right.sum())
    for evidence in (acceptance.first, acceptance.plain, acceptance.views):
        assert acceptance.probability(evidence, best, CRITICS) <= (number + 1) / (number + 2) + 1e-6
