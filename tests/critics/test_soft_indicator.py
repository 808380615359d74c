"""Indicators, counts, margins and the logits behind other scores, in double precision."""

from __future__ import annotations

import math

import pytest
import torch

from countgen.critics.detections import hard_count
from countgen.critics.soft_indicator import (
    distance_to_change,
    geometric_mean_logits,
    product_logits,
    soft_count,
    soft_indicator,
    softmax_logits,
)
from tests.critics.test_losses import candidates, random_candidates

pytestmark = pytest.mark.core


def test_a_steep_indicator_is_the_hard_count_and_suppressed_candidates_count_for_nothing() -> None:
    given = random_candidates(0)
    assert torch.equal(soft_count(given, 0.2, 1e5).round().long(), hard_count(given, 0.2))
    assert soft_indicator(torch.tensor([0.7, 1.2]), 0.7, 6.0).tolist() == pytest.approx([0.5, 1 / (1 + math.exp(-3))])
    high = candidates(torch.full((1, 4), 9.0), torch.tensor([[True, False, True, False]]))
    assert float(soft_count(high, 0.0, 4.0)) == pytest.approx(2)
    assert int(hard_count(high, 0.0)) == 2


def test_the_margin_is_the_distance_to_another_count_and_positive_exactly_where_the_count_is_right() -> None:
    three, two = candidates(torch.tensor([[3.5, 2.5, -0.5]])), candidates(torch.tensor([[3.0, 2.0]]))
    for target_count, distance in {0: -3.0, 1: -2.0, 2: 1.0, 3: -1.0, 4: -math.inf, 400: -math.inf}.items():
        assert distance_to_change(three, target_count, 0.5).item() == distance
    assert distance_to_change(two, 2, 0.5).item() == 1.5  # every candidate counts
    given = random_candidates(1)
    for target_count in range(16):
        positive = distance_to_change(given, target_count, 0.1) > 0
        assert torch.equal(positive, hard_count(given, 0.1) == target_count)


def test_logits_have_the_probabilities_of_their_scores() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = 3 * torch.randn(5, 7, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(softmax_logits(logits).sigmoid(), logits.softmax(-1))
    others = torch.stack([logits[:, [k for k in range(7) if k != c]].logsumexp(-1) for c in range(7)], -1)
    torch.testing.assert_close(softmax_logits(logits), logits - others, rtol=1e-6, atol=1e-6)
    first, second = 3 * torch.randn(2, 50, generator=generator, dtype=torch.float64)
    product = first.sigmoid() * second.sigmoid()
    torch.testing.assert_close(geometric_mean_logits(first, second).sigmoid(), product.sqrt())
    torch.testing.assert_close(product_logits(first, second).sigmoid(), product)


@pytest.mark.parametrize("size", [1e2, 1e4])
def test_logits_stay_finite_with_their_gradient(size: float) -> None:
    logits = torch.tensor([[size, -size, 0.0], [-size, -size, -size], [size, size, size]], requires_grad=True)
    pair = logits, logits.flip(-1)
    for value in (softmax_logits(logits), geometric_mean_logits(*pair), product_logits(*pair)):
        (gradient,) = torch.autograd.grad(value.sum(), logits, retain_graph=True)
        assert torch.isfinite(value).all()
        assert torch.isfinite(gradient).all()
