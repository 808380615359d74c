"""Soft indicators and soft counts from class logits, and logits of the scores of several architectures."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, pad

from countgen.critics.candidates import Candidates


def soft_indicator(logits: Tensor, threshold_logit: float, steepness: float) -> Tensor:
    """Sigmoid around the detection threshold: near 0 for candidates below it, near 1 above.

    Args:
        logits: any shape, float32.
        threshold_logit: the detector's threshold in logit space.
        steepness: slope per logit, > 0. Higher is closer to the hard count and has gradient in a
            narrower band.

    Returns:
        The shape of `logits`, in (0, 1), with gradient.

    Source: D2D (arXiv 2510.19278), Eq. 1.
    """
    return (steepness * (logits - threshold_logit)).sigmoid()


def soft_count(candidates: Candidates, threshold_logit: float, steepness: float) -> Tensor:
    """Sum of the indicators of the kept candidates: float32 (B,), with gradient."""
    return (soft_indicator(candidates.logits, threshold_logit, steepness) * candidates.kept).sum(1)


def distance_to_change(candidates: Candidates, target_count: int, threshold_logit: float) -> Tensor:
    """Return the distance in logits of the nearest candidate from changing the count; negative where it is wrong.

    With the kept logits sorted downwards, the count is exactly N when z_(N) > t >= z_(N+1); the distance is
    the smaller of z_(N) - t and t - z_(N+1).

    Returns:
        float32 (B,), with gradient.
    """
    ranked = candidates.logits.masked_fill(~candidates.kept, float("-inf")).sort(dim=1, descending=True).values
    if target_count > ranked.shape[1]:
        return ranked.new_full(ranked.shape[:1], float("-inf"))
    # Entry k is the k-th best logit: one above all of them at the start, one below them at the end.
    ranked = pad(pad(ranked, (1, 0), value=float("inf")), (0, 1), value=float("-inf"))
    return (ranked[:, target_count] - threshold_logit).minimum(threshold_logit - ranked[:, target_count + 1])


def softmax_logits(logits: Tensor) -> Tensor:
    """Binary logit of every class's softmax probability, so that a threshold on probabilities holds.

    log p - log(1 - p), which is z_c minus the logsumexp of the other logits; exact also where p rounds to 1.

    Args:
        logits: (..., C) with C >= 2, any float dtype.

    Returns:
        (..., C), at least float32, finite for finite input.
    """
    logits = _precise(logits)
    best = logits == logits.amax(-1, keepdim=True)
    best = best & (best.cumsum(-1) == 1)
    others = logits.masked_fill(best, float("-inf")).logsumexp(-1, keepdim=True)
    # Of the classes that are not the best, none has a probability above one half.
    return torch.where(best, logits - others, _logit_of_log(logits.log_softmax(-1)))


def product_logits(first: Tensor, second: Tensor) -> Tensor:
    """Logit of sigmoid(first) * sigmoid(second), the score of SAM 3; finite for finite input.

    Returns:
        The broadcast shape, at least float32.
    """
    return _logit_of_log(logsigmoid(_precise(first)) + logsigmoid(_precise(second)))


def geometric_mean_logits(first: Tensor, second: Tensor) -> Tensor:
    """Logit of sqrt(sigmoid(first) * sigmoid(second)), the score of FCOS; finite for finite input.

    Returns:
        The broadcast shape, at least float32.
    """
    return _logit_of_log(0.5 * (logsigmoid(_precise(first)) + logsigmoid(_precise(second))))


def _precise(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _logit_of_log(log_p: Tensor) -> Tensor:
    log_p = log_p.clamp(max=-1e-7)
    return log_p - torch.log(-torch.expm1(log_p))
