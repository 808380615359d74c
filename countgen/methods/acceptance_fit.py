"""Fit P(right) to the margins of critics on plain images, and to the verdicts of a judge that steers nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from msgspec.structs import replace
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import logsigmoid

from countgen.critics import Critic
from countgen.methods.acceptance import HIGHEST, LOWEST, Acceptance, Evidence

BEYOND_HIGHEST = 0.1
"""Fraction of a critic's margins above 0 that are above `HIGHEST` once they are scaled."""


def fit_acceptance(margins: Tensor, right: Tensor, critics: Sequence[Critic]) -> Acceptance:
    """Fit every kind of evidence, and the scales of the critics; images with a NaN are left out.

    Args:
        margins: float64 (B, N), each critic's on the untransformed image and then on its other views.
        right: bool (B,), whether the judge counts what the prompt says.
        critics: of the columns of the margins.
    """
    known = ~margins.isnan().any(1)
    margins, right = margins[known], right[known]
    scales = {critic.name: _scale(margins[:, [other is critic for other in critics]]) for critic in critics}
    scaled = margins / margins.new_tensor([scales[critic.name] for critic in critics])
    plain = [critics.index(critic) for critic in dict.fromkeys(critics)]
    # Where a margin is negative, the least one alone says no more than all.
    unanimous = margins.amin(1) > 0
    least = fit_evidence(margins[unanimous].amin(1, keepdim=True), right[unanimous])
    return Acceptance(
        first=fit_evidence(scaled[:, :1], right),
        plain=fit_evidence(scaled[:, plain], right),
        views=fit_evidence(scaled, right),
        least=replace(least, below=Acceptance().least.below),
        scales=scales,
    )


def fit_evidence(margins: Tensor, right: Tensor) -> Evidence:
    """Fit a logistic regression with slopes of at least 0, no more certain than the number of images allows.

    The prior is Jeffreys' for P(right) at three points, where every margin is `LOWEST`, 0 or `HIGHEST`: as data, half a
    right and half a wrong image at each. With n right images P is at most (n + 1) / (n + 2), Laplace's rule of
    succession, wherever the line leads beyond them.

    Args:
        margins: float64 (B, N).
        right: bool (B,).

    Source: Bedrick, Christensen and Johnson 1996 (conditional means priors).
    """
    points = margins.new_tensor([[LOWEST], [0.0], [HIGHEST]] * 2).expand(-1, margins.shape[1])
    below, above = Evidence.features(torch.cat([margins, points]))
    # The intercept is that at `HIGHEST`, which is bounded; the sign is that of the verdict.
    design = torch.stack([torch.ones_like(below), below, above - HIGHEST], 1)
    design *= torch.cat([2.0 * right - 1, margins.new_tensor([1.0] * 3 + [-1.0] * 3)])[:, None]
    weights = torch.cat([torch.ones_like(right, dtype=margins.dtype), margins.new_full((6,), 0.5)])

    def negative_log_likelihood(coefficients: Any) -> tuple[float, Any]:
        log_odds = design @ torch.from_numpy(coefficients)
        gradient = -(weights * torch.sigmoid(-log_odds)) @ design
        return -float(weights @ logsigmoid(log_odds)), gradient.numpy()

    bounds = [(None, math.log(1 + int(right.sum()))), (0, None), (0, None)]
    highest, *slopes = minimize(negative_log_likelihood, [0, 0, 0], jac=True, bounds=bounds).x.tolist()
    return Evidence(intercept=highest - HIGHEST * slopes[1], below=slopes[0], above=slopes[1])


def _scale(margins: Tensor) -> float:
    """Return what a critic's margins are divided by; 1 if none is positive and finite."""
    positive = margins[(margins > 0) & margins.isfinite()]
    return float(positive.quantile(1 - BEYOND_HIGHEST)) / HIGHEST if len(positive) else 1.0
