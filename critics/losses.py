"""Count losses: pure functions of the candidates' logits, the threshold and the target count.

Each takes one object name's `Candidates` and returns float32 (B,) with gradient, 0 or near it where the
count is right. The caller adds them over object names and views.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from countgen import plugins
from countgen.critics.candidates import Candidates
from countgen.critics.soft_indicator import soft_count, soft_indicator

STEEPNESS = 4.0
"""Slope of the soft indicator per logit where a critic does not set its own."""


class CountLoss(Protocol):
    """The signature of count losses."""

    def __call__(
        self, candidates: Candidates, target_count: int, threshold_logit: float, steepness: float = STEEPNESS
    ) -> Tensor:
        """Return float32 (B,), with gradient."""
        ...


def _ranked(candidates: Candidates, threshold_logit: float) -> tuple[Tensor, Tensor]:
    """Return the logits and kept flags, best first, with every kept candidate before every suppressed one.

    An image with fewer than N kept candidates then still has candidates whose logits can rise. Suppressed ones above
    the threshold come last: a higher score would not make them count.
    """
    key = candidates.logits.detach()
    spread = key.amax(1, keepdim=True) - key.amin(1, keepdim=True) + 1
    last = ~candidates.kept & (key > threshold_logit)
    order = (key - spread * ~candidates.kept - spread * last).argsort(dim=1, descending=True)
    return candidates.logits.gather(1, order), candidates.kept.gather(1, order)


def l1(candidates: Candidates, target_count: int, threshold_logit: float, steepness: float = STEEPNESS) -> Tensor:
    """Absolute difference of soft count and target, |soft count - N|.

    Source: D2D (arXiv 2510.19278), Eq. 1.
    """
    return (soft_count(candidates, threshold_logit, steepness) - target_count).abs()


def d2d(candidates: Candidates, target_count: int, threshold_logit: float, steepness: float = STEEPNESS) -> Tensor:
    """Indicators times their distance from the threshold, which has gradient where the indicators are flat.

    Above the target count, the logits of the weakest counted candidates fall; below it, those of the best uncounted
    candidates rise; at it, the loss is zero.

    Source: D2D (arXiv 2510.19278), Eq. 2; the case split is ours.
    """
    logits, kept = _ranked(candidates, threshold_logit)
    distance = logits - threshold_logit
    indicator = soft_indicator(logits, threshold_logit, steepness)
    rank = torch.arange(logits.shape[1], device=logits.device)
    surplus = kept & (distance > 0) & (rank >= target_count)
    counted = (kept & (distance > 0)).sum(1, keepdim=True)
    missing = (rank >= counted) & (rank < target_count)
    # A suppressed duplicate may be above the threshold already: its distance is clamped, since its neighbour
    # suppresses it and not its score.
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
    candidates only. It does not use the indicator, so `steepness` changes nothing.
    """
    logits, kept = _ranked(candidates, threshold_logit)
    distance = logits - threshold_logit
    inside = torch.arange(logits.shape[1], device=logits.device) < target_count
    lacking = (width - distance).relu() * inside
    surplus = (width + distance).relu() * (kept & ~inside)
    return (lacking + surplus).sum(1)


def density(total: Tensor, target_count: int) -> Tensor:
    """Absolute difference of a density sum and the target, |sum - N|, for critics without candidates.

    Args:
        total: (B,) sums of density maps, at least 0, with gradient.
        target_count: N.

    Source: Zafar et al. 2024 (count token, arXiv 2408.11721).
    """
    return (total - target_count).abs()


def dynamic_scale(total: Tensor, count: Tensor) -> Tensor:
    """Density per object of an image: sum of the density map / number of detections, without gradient.

    The count scaled with it equals the detector's, which needs no gradient, and the gradient is that of the density
    map. Where the detector has no detections the scale is 1. It is at least 0.1, which keeps the gradient finite.

    Args:
        total: (B,) sums of density maps, at least 0.
        count: int (B,), the detector's.

    Source: Zafar et al. 2024 (count token, arXiv 2408.11721).
    """
    total = total.detach()
    return torch.where(count > 0, total / count.clamp(min=1), torch.ones_like(total)).clamp(min=0.1)


LOSSES: dict[str, CountLoss] = {"l1": l1, "d2d": d2d, "margin": margin_loss}
"""Losses of candidates, by name.

`density` is not among them: it takes the sum of a map, and critics without candidates use it whatever loss is given.
"""


def available() -> tuple[str, ...]:
    """Return the names of the losses of candidates, those of plug-ins included; nothing is imported."""
    return tuple(sorted({*LOSSES, *plugins.names("losses")}))


def load(loss: str | CountLoss) -> CountLoss:
    """Return a loss by its name in `available()`; a function is returned as it is."""
    if callable(loss):
        return loss
    return LOSSES[loss] if loss in LOSSES else plugins.load("losses", loss)
