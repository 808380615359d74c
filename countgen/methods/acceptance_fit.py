"""Fit P(right) to the margins of critics on plain images, and to the verdicts of a judge that steers nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import logsigmoid

from countgen.critics import Critic
from countgen.methods.acceptance import HIGHEST, LOWEST, MOST_CERTAIN, Acceptance, Evidence, Prior
from countgen.prompts import Target

BEYOND_HIGHEST = 0.1
"""Fraction of a critic's margins above 0 that are above `HIGHEST` once they are scaled."""


def fit_acceptance(
    margins: Tensor, right: Tensor, critics: Sequence[Critic], targets: Sequence[Sequence[Target]]
) -> Acceptance:
    """Fit the prior, the scales of the critics, and every kind of evidence with the prior's log odds as its offset.

    With n right images P is at most (n + 1) / (n + 2), Laplace's rule of succession, wherever the line leads beyond
    them. A slope of the prior that the images cannot show, since they all have one count or one class, is the default.

    Args:
        margins: float64 (B, N), each critic's on the untransformed image and then on its other views.
        right: bool (B,), whether the judge counts what the prompt says.
        critics: of the columns of the margins.
        targets: of each image's prompt.

    Raises:
        ValueError: a margin is NaN, or all verdicts are equal.
    """
    if margins.isnan().any():
        raise ValueError(
            f"{int(margins.isnan().any(1).sum())} of {len(margins)} images have a margin that is not a number; "
            "load the model with --dtype float32, or with another VAE"
        )
    if bool(right.all()) or not right.any():
        raise ValueError(
            f"the judge calls {'all' if right.all() else 'none'} of the {len(right)} images right, so P(right) cannot "
            "be fitted; give more --images, or another --max-number"
        )
    scales = {critic.name: _scale(margins[:, [other is critic for other in critics]]) for critic in critics}
    scaled = margins / margins.new_tensor([scales[critic.name] for critic in critics])
    plain = [critics.index(critic) for critic in dict.fromkeys(critics)]
    prior = _fit_prior(right, targets)
    offsets = margins.new_tensor([prior.log_odds(of) for of in targets])
    return Acceptance(
        prior=prior,
        first=fit_evidence(scaled[:, :1], right, offsets),
        plain=fit_evidence(scaled[:, plain], right, offsets),
        views=fit_evidence(scaled, right, offsets),
        highest=min(MOST_CERTAIN, math.log(1 + int(right.sum()))),
        scales=scales,
    )


def fit_evidence(margins: Tensor, right: Tensor, offsets: Tensor) -> Evidence:
    """Fit a logistic regression with an offset and slopes of at least 0.

    The prior of the coefficients is Jeffreys' for the verdict at three points, where every margin is `LOWEST`, 0 or
    `HIGHEST`: as data, half a right and half a wrong image at each, with the mean offset.

    Args:
        margins: float64 (B, N).
        right: bool (B,).
        offsets: float64 (B,), log odds of the images before their margins are known.

    Source: Bedrick, Christensen and Johnson 1996 (conditional means priors).
    """
    points = margins.new_tensor([[LOWEST], [0.0], [HIGHEST]]).expand(-1, margins.shape[1])
    intercept, below, above = _regression(
        torch.stack(Evidence.features(margins), 1),
        right,
        offsets,
        points=torch.stack(Evidence.features(points), 1),
        slopes=(0, None),
    )
    return Evidence(intercept=intercept, below=below, above=above)


def _fit_prior(right: Tensor, targets: Sequence[Sequence[Target]]) -> Prior:
    """Fit the log odds of a right plain image, linear in the logarithm of the count and in the number of classes."""
    default = Prior()
    features = torch.tensor([Prior.features(of) for of in targets], dtype=torch.float64)
    slopes = torch.tensor([default.count, default.classes], dtype=torch.float64)
    lowest, highest = features.amin(0), features.amax(0)
    shown = lowest < highest
    intercept, *fitted = _regression(
        features[:, shown],
        right,
        features[:, ~shown] @ slopes[~shown],
        points=torch.stack([lowest, highest])[:, shown],
        slopes=(None, 0),
    )
    slopes[shown] = slopes.new_tensor(fitted)
    count, classes = slopes.tolist()
    return Prior(intercept=intercept, count=count, classes=classes)


def _regression(
    features: Tensor, right: Tensor, offsets: Tensor, *, points: Tensor, slopes: tuple[float | None, float | None]
) -> list[float]:
    """Return intercept and slopes of a logistic regression with an offset.

    Args:
        features: float64 (B, F).
        right: bool (B,).
        offsets: float64 (B,).
        points: float64 (K, F), each of which enters as half a right and half a wrong image with the mean offset.
        slopes: their least and their largest value.
    """
    images, extra = len(right), 2 * len(points)
    rows = torch.cat([features, points, points])
    rows = torch.cat([rows.new_ones(len(rows), 1), rows], 1)
    offsets = torch.cat([offsets, offsets.mean().expand(extra)])
    weights, signs = torch.ones_like(offsets), torch.ones_like(offsets)
    weights[images:] = 0.5
    signs[:images] = 2.0 * right - 1
    signs[images + len(points) :] = -1

    def negative_log_likelihood(coefficients: Any) -> tuple[float, Any]:
        log_odds = signs * (rows @ torch.from_numpy(coefficients) + offsets)
        gradient = -(weights * signs * torch.sigmoid(-log_odds)) @ rows
        return -float(weights @ logsigmoid(log_odds)), gradient.numpy()

    bounds = [(None, None), *[slopes] * features.shape[1]]
    return minimize(negative_log_likelihood, [0.0] * rows.shape[1], jac=True, bounds=bounds).x.tolist()


def _scale(margins: Tensor) -> float:
    """Return what a critic's margins are divided by; 1 if none is positive and finite."""
    positive = margins[(margins > 0) & margins.isfinite()]
    return float(positive.quantile(1 - BEYOND_HIGHEST)) / HIGHEST if len(positive) else 1.0
