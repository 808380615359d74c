"""Count losses against closed forms, a slow oracle and finite differences, in double precision."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from countgen.critics.candidates import Candidates
from countgen.critics.detections import hard_count
from countgen.critics.losses import LOSSES, d2d, density, dynamic_scale, margin_loss

pytestmark = pytest.mark.core
THRESHOLD = 0.3
STEEPNESS = 2.5


def candidates(logits: Tensor, kept: Tensor | None = None) -> Candidates:
    if kept is None:
        kept = torch.ones_like(logits, dtype=torch.bool)
    return Candidates(torch.zeros(*logits.shape, 4), logits, kept)


def random_candidates(seed: int) -> Candidates:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(6, 15, generator=generator, dtype=torch.float64)
    return candidates(logits.sort(dim=1, descending=True).values, torch.rand(6, 15, generator=generator) < 0.7)


def slow(name: str, logits: list[float], kept: list[bool], target_count: int) -> float:
    """The losses of one image, written as the formulas read."""

    def indicator(z: float) -> float:
        return 1 / (1 + math.exp(-STEEPNESS * (z - THRESHOLD)))

    ranked = sorted((z for z, k in zip(logits, kept, strict=True) if k), reverse=True)
    if name == "l1":
        return abs(sum(map(indicator, ranked)) - target_count)
    spare = [z for z, k in zip(logits, kept, strict=True) if not k]
    spare.sort(key=lambda z: (z > THRESHOLD, -z))
    lacking = (ranked + spare)[:target_count]
    surplus = ranked[target_count:]
    if name == "margin":
        low = sum(max(0.0, 1.5 - (z - THRESHOLD)) for z in lacking)
        return low + sum(max(0.0, 1.5 + (z - THRESHOLD)) for z in surplus)
    counted = sum(z > THRESHOLD for z in ranked)
    high = sum(indicator(z) * (z - THRESHOLD) for z in surplus if z > THRESHOLD)
    return high + sum((1 - indicator(z)) * max(0.0, THRESHOLD - z) for z in lacking[counted:])


def test_a_loss_equals_its_formula() -> None:
    for name, target_count, seed in product(LOSSES, (0, 1, 4, 9, 14), range(5)):
        given = random_candidates(seed)
        expected = [
            slow(name, logits, kept, target_count)
            for logits, kept in zip(given.logits.tolist(), given.kept.tolist(), strict=True)
        ]
        loss = LOSSES[name](given, target_count, THRESHOLD, STEEPNESS)
        assert loss.tolist() == pytest.approx(expected), (name, target_count, seed)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
@pytest.mark.parametrize("target_count", [0, 3, 7])
def test_the_gradient_equals_finite_differences(loss, target_count: int) -> None:
    given = random_candidates(11)

    def value(logits: Tensor) -> Tensor:
        return loss(candidates(logits, given.kept), target_count, THRESHOLD)

    assert torch.autograd.gradcheck(value, given.logits.requires_grad_(True), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("loss", [d2d, margin_loss])
def test_a_missing_candidate_still_gives_a_signal(loss) -> None:
    # One object kept; a second box on it above the threshold and a third below are suppressed.
    logits = torch.tensor([[6.0, 5.0, -2.0]], requires_grad=True)
    value = loss(candidates(logits, torch.tensor([[True, False, False]])), 2, THRESHOLD)
    value.sum().backward()
    assert value.item() > 1
    assert logits.grad.tolist()[0][2] < -0.5
    assert logits.grad.tolist()[0][1] == 0


def test_the_margin_loss_is_zero_exactly_when_the_count_is_right_by_the_margin() -> None:
    for seed, target_count in product(range(40), range(8)):
        given = random_candidates(seed)
        zero = margin_loss(given, target_count, THRESHOLD, width=0.4) == 0
        near = ((given.logits - THRESHOLD).abs() < 0.4) & given.kept
        assert torch.equal(zero, (hard_count(given, THRESHOLD) == target_count) & ~near.any(1))


def test_the_density_loss_is_the_distance_of_the_sum() -> None:
    total = torch.tensor([12.0, 3.0], requires_grad=True)
    value = density(total, 5)
    assert value.tolist() == [7, 2]
    assert torch.autograd.grad(value.sum(), total)[0].tolist() == [1, -1]


def test_the_dynamic_scale_never_divides_by_zero() -> None:
    scale = dynamic_scale(torch.tensor([12.0, 2.0, 0.0, 7.0, 0.0]), torch.tensor([4, 8, 5, 0, 0]))
    assert scale.tolist() == pytest.approx([3.0, 0.25, 0.1, 1.0, 1.0])
