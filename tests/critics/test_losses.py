"""Count losses against closed forms, a slow oracle and finite differences."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from countgen.critics.candidates import Candidates
from countgen.critics.detections import hard_count
from countgen.critics.losses import LOSSES, d2d, margin_loss

pytestmark = pytest.mark.core

THRESHOLD = 0.3
ALL = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def candidates(logits: Tensor, kept: Tensor | None = None) -> Candidates:
    if kept is None:
        kept = torch.ones_like(logits, dtype=torch.bool)
    return Candidates(torch.zeros(*logits.shape, 4), logits, kept)


def random_candidates(seed: int, double: bool = False) -> Candidates:
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(6, 15, generator=generator) * 3).sort(dim=1, descending=True).values
    kept = torch.rand(6, 15, generator=generator) < 0.7
    return candidates(logits.double() if double else logits, kept)


def slow(name: str, logits: list[float], kept: list[bool], target_count: int) -> float:
    """The losses of one picture, written as the formulas read."""
    import math

    def indicator(z: float) -> float:
        return 1 / (1 + math.exp(-4 * (z - THRESHOLD)))

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
    pulled = lacking[counted:]
    return high + sum((1 - indicator(z)) * max(0.0, THRESHOLD - z) for z in pulled)


def test_a_loss_equals_its_formula(subtests: pytest.Subtests) -> None:
    for name, target_count, seed in product(LOSSES, (0, 1, 4, 9, 14), range(5)):
        with subtests.test(name=name, target_count=target_count, seed=seed):
            found = random_candidates(seed)
            expected = [
                slow(name, logits, kept, target_count)
                for logits, kept in zip(found.logits.tolist(), found.kept.tolist(), strict=True)
            ]
            values = LOSSES[name](found, target_count, THRESHOLD)
            torch.testing.assert_close(values, torch.tensor(expected), rtol=1e-4, atol=1e-4)


@ALL
@pytest.mark.parametrize("target_count", [0, 3, 7])
def test_the_gradient_equals_finite_differences(loss, target_count: int) -> None:
    found = random_candidates(11, double=True)

    def value(logits: Tensor) -> Tensor:
        return loss(candidates(logits, found.kept), target_count, THRESHOLD)

    assert torch.autograd.gradcheck(value, found.logits.requires_grad_(True), eps=1e-7, atol=1e-5)


@ALL
def test_a_clear_exact_count_costs_nothing_or_next_to_nothing(loss) -> None:
    logits = torch.tensor([[6.0, 5.0, 4.0, -5.0, -6.0]])
    assert float(loss(candidates(logits), 3, THRESHOLD)) < 1e-5


@ALL
def test_a_wrong_count_costs(loss) -> None:
    logits = torch.tensor([[6.0, 5.0, 4.0, -5.0, -6.0]])
    costs = {wrong: float(loss(candidates(logits), wrong, THRESHOLD)) for wrong in (0, 1, 2, 4, 5)}
    assert {wrong: cost for wrong, cost in costs.items() if not cost > 0.5} == {}


@pytest.mark.parametrize("loss", [d2d, margin_loss])
@pytest.mark.parametrize("target_count", [1, 5])
def test_the_gradient_lives_where_the_indicator_is_flat(loss, target_count: int) -> None:
    logits = torch.tensor([[16.0, 15.0, 14.0, -15.0, -16.0]], requires_grad=True)
    loss(candidates(logits), target_count, THRESHOLD).sum().backward()
    surplus_is_pushed_down = logits.grad[0, 1:3] > 0.5
    missing_is_pulled_up = logits.grad[0, 3:5] < -0.5
    assert (surplus_is_pushed_down if target_count == 1 else missing_is_pulled_up).all()


@pytest.mark.parametrize("loss", [d2d, margin_loss])
def test_a_missing_candidate_still_gives_a_signal(loss) -> None:
    # One object kept; a second box on it above the threshold and a third below are suppressed.
    logits = torch.tensor([[6.0, 5.0, -2.0]], requires_grad=True)
    kept = torch.tensor([[True, False, False]])
    value = loss(candidates(logits, kept), 2, THRESHOLD)
    value.sum().backward()
    assert value.item() > 1
    assert logits.grad.tolist()[0][2] < -0.5
    assert logits.grad.tolist()[0][1] == 0


def test_the_margin_loss_is_zero_exactly_when_the_count_is_right_by_the_margin() -> None:
    for seed in range(40):
        found = random_candidates(seed)
        for target_count in range(8):
            zero = margin_loss(found, target_count, THRESHOLD, width=0.4) == 0
            right = hard_count(found, THRESHOLD) == target_count
            near = ((found.logits - THRESHOLD).abs() < 0.4) & found.kept
            torch.testing.assert_close(zero, right & ~near.any(1))


@ALL
def test_descent_on_the_logits_reaches_the_count(loss) -> None:
    logits = torch.linspace(1.2, -1.2, 12)[None].clone().requires_grad_(True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss(candidates(logits), 4, THRESHOLD).sum().backward()
        optimizer.step()
    assert int(hard_count(candidates(logits.detach()), THRESHOLD)) == 4
