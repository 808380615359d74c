"""Count losses: pure functions of the candidates' logits, the threshold and the target count.

Each takes one object name's `Candidates` and returns float32 (B,) with gradient, 0 or near it where the
count is right. Sums over several object names, or several views, are the caller's.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from critics.candidates import Candidates
from critics.soft_indicator import soft_count, soft_indicator

STEEPNESS = 4.0
"""Slope of the soft indicator per logit where a critic does not set its own."""


class CountLoss(Protocol):
    """What the losses have in common."""

    def __call__(
        self, candidates: Candidates, target_count: int, threshold_logit: float, steepness: float = STEEPNESS
    ) -> Tensor:
        """Float32 (B,), with gradient."""
        ...


def _ranked(candidates: Candidates, threshold_logit: float) -> tuple[Tensor, Tensor]:
    """Return the logits and kept flags, best first, with every kept candidate before every suppressed one.

    So that an image with fewer than N kept candidates still has proposals to pull up. Suppressed ones above
    the threshold come last: a higher score would not make them count.
    """
    key = candidates.logits.detach()
    spread = key.amax(1, keepdim=True) - key.amin(1, keepdim=True) + 1
    hopeless = ~candidates.kept & (key > threshold_logit)
    order = (key - spread * ~candidates.kept - spread * hopeless).argsort(dim=1, descending=True)
    return candidates.logits.gather(1, order), candidates.kept.gather(1, order)


def l1(candidates: Candidates, target_count: int, threshold_logit: float, steepness: float = STEEPNESS) -> Tensor:
    """|soft count - N|.

    Source: D2D (arXiv 2510.19278), Eq. 1.
    """
    return (soft_count(candidates, threshold_logit, steepness) - target_count).abs()


def d2d(candidates: Candidates, target_count: int, threshold_logit: float, steepness: float = STEEPNESS) -> Tensor:
    """Indicators times their distance from the threshold, so that gradient survives where they are flat.

    Too many: the surplus, the weakest counted candidates, is pushed down. Too few: the best uncounted
    candidates are pulled up. Exact: zero.

    Source: D2D (arXiv 2510.19278), Eq. 2; the case split is ours.
    """
    logits, kept = _ranked(candidates, threshold_logit)
    distance = logits - threshold_logit
    indicator = soft_indicator(logits, threshold_logit, steepness)
    rank = torch.arange(logits.shape[1], device=logits.device)
    surplus = kept & (distance > 0) & (rank >= target_count)
    counted = (kept & (distance > 0)).sum(1, keepdim=True)
    missing = (rank >= counted) & (rank < target_count)
    # A suppressed duplicate that is pulled up may lie above the threshold already: its distance is
    # clamped, since it is suppressed by its neighbour and not by its score.
    shortfall = (1 - indicator) * -distance.clamp(max=0)
    return (surplus * indicator * distance).sum(1) + (missing * shortfall).sum(1)


def margin_loss(
    candidates: Candidates,
    target_count: int,
    threshold_logit: float,
    steepness: float = STEEPNESS,
    *,
    width: float = 1.5,
) -> Tensor:
    """Hinge on the ranked logits: zero exactly when the count is N by `width` logits on both sides.

    sum_{i<=N} relu(m - (z_(i) - t)) + sum_{i>N} relu(m + (z_(i) - t)), the second sum over kept
    candidates only. There is no indicator in it, so `steepness` changes nothing.
    """
    logits, kept = _ranked(candidates, threshold_logit)
    distance = logits - threshold_logit
    inside = torch.arange(logits.shape[1], device=logits.device) < target_count
    lacking = (width - distance).relu() * inside
    surplus = (width + distance).relu() * (kept & ~inside)
    return (lacking + surplus).sum(1)


def density(total: Tensor, target_count: int, scale: Tensor | float = 1.0) -> Tensor:
    """|sum of a density map / scale - N|, for counters without candidates.

    Args:
        total: (B,) sums of density maps, at least 0, with gradient.
        target_count: N.
        scale: density per object: 1 for a calibrated map, (B,) for a dynamic scale, see `dynamic_scale`.

    Source: Zafar et al. 2024 (count token, arXiv 2408.11721).
    """
    return (total / scale - target_count).abs()


def dynamic_scale(total: Tensor, count: Tensor, smallest: float = 0.1) -> Tensor:
    """Density per object at this moment: sum of the density map / number of detections, without gradient.

    With it the forward count equals the detector's, which needs no gradient of its own, and the direction is
    the density map's. Where the detector finds nothing, or the map is nearly empty, the scale is that of a
    calibrated map or `smallest`, so that nothing is divided by zero.

    Args:
        total: (B,) sums of density maps, at least 0.
        count: int (B,), the detector's.
        smallest: a floor, which keeps the gradient finite.

    Source: Zafar et al. 2024 (count token, arXiv 2408.11721).
    """
    total = total.detach()
    found = count > 0
    return torch.where(found, total / count.clamp(min=1), torch.ones_like(total)).clamp(min=smallest)


LOSSES: dict[str, CountLoss] = {"l1": l1, "d2d": d2d, "margin": margin_loss}
"""The losses to choose from, by name: those of candidates.

`density` is not among them because there is nothing to choose: it reads the sum of a map, which only critics without
candidates have, and they use it whatever loss is asked for.
"""
