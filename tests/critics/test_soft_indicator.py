"""Indicators, counts, margins and the logits behind other scores."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from countgen.critics.candidates import Candidates
from countgen.critics.detections import hard_count
from countgen.critics.soft_indicator import (
    distance_to_change,
    geometric_mean_logits,
    soft_count,
    soft_indicator,
    softmax_logits,
)

pytestmark = pytest.mark.core


def candidates(logits: Tensor, kept: Tensor | None = None) -> Candidates:
    if kept is None:
        kept = torch.ones_like(logits, dtype=torch.bool)
    return Candidates(torch.zeros(*logits.shape, 4), logits, kept)


def test_the_indicator_is_half_at_the_threshold_and_its_slope_is_a_quarter_of_the_steepness() -> None:
    logit = torch.tensor(0.7, requires_grad=True)
    value = soft_indicator(logit, 0.7, 6.0)
    value.backward()
    assert value.item() == pytest.approx(0.5)
    assert float(logit.grad) == pytest.approx(6 / 4)


def test_a_steep_indicator_is_the_hard_count() -> None:
    found = candidates(torch.randn(8, 30, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(soft_count(found, 0.2, 1e5).round().long(), hard_count(found, 0.2))


def test_suppressed_candidates_count_for_nothing() -> None:
    found = candidates(torch.full((1, 4), 9.0), torch.tensor([[True, False, True, False]]))
    assert float(soft_count(found, 0.0, 4.0)) == pytest.approx(2)
    assert int(hard_count(found, 0.0)) == 2


@pytest.mark.parametrize(
    ("target_count", "expected"),
    [(0, -3.0), (1, -2.0), (2, 1.0), (3, -1.0), (4, -math.inf), (400, -math.inf)],
)
def test_the_margin_is_the_distance_of_the_candidate_that_would_change_the_count(
    target_count: int, expected: float
) -> None:
    logits = torch.tensor([[3.5, 2.5, -0.5]])
    assert float(distance_to_change(candidates(logits), target_count, 0.5)) == pytest.approx(expected)


def test_with_every_candidate_counted_the_margin_is_that_of_the_weakest() -> None:
    assert float(distance_to_change(candidates(torch.tensor([[3.0, 2.0]])), 2, 0.5)) == pytest.approx(1.5)


def test_the_margin_is_positive_exactly_where_the_count_is_right() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(64, 9, generator=generator)
    found = candidates(logits, torch.rand(64, 9, generator=generator) < 0.8)
    for target_count in range(10):
        torch.testing.assert_close(
            distance_to_change(found, target_count, 0.1) > 0, hard_count(found, 0.1) == target_count
        )


def test_softmax_logits_give_the_softmax_probabilities() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(2)) * 3
    torch.testing.assert_close(softmax_logits(logits).sigmoid(), logits.softmax(-1))
    others = torch.stack([logits[:, [k for k in range(7) if k != c]].logsumexp(-1) for c in range(7)], -1)
    torch.testing.assert_close(softmax_logits(logits.double()), (logits - others).double(), rtol=1e-4, atol=1e-4)


def test_softmax_logits_tell_sure_from_surer() -> None:
    logits = torch.tensor([[30.0, 0.0, -1.0], [40.0, 0.0, -1.0]], requires_grad=True)
    value = softmax_logits(logits)[:, 0]
    torch.testing.assert_close(value, torch.tensor([30.0, 40.0]) - torch.tensor([0.0, -1.0]).logsumexp(0))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert gradient[:, 0].tolist() == [1, 1]


def test_geometric_mean_logits_give_the_score_of_fcos() -> None:
    first, second = torch.randn(2, 50, generator=torch.Generator().manual_seed(3)) * 3
    score = (first.sigmoid() * second.sigmoid()).sqrt()
    torch.testing.assert_close(geometric_mean_logits(first, second).sigmoid(), score)


@pytest.mark.parametrize("size", [1e2, 1e4])
def test_logits_stay_finite_with_their_gradient(size: float) -> None:
    logits = torch.tensor([[size, -size, 0.0], [-size, -size, -size], [size, size, size]], requires_grad=True)
    for value in (softmax_logits(logits), geometric_mean_logits(logits, logits.flip(-1))):
        (gradient,) = torch.autograd.grad(value.sum(), logits, retain_graph=True)
        assert torch.isfinite(value).all()
        assert torch.isfinite(gradient).all()
