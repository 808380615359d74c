"""The probability that an image has the right count, from the margins of critics and the prompt's prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, field
from torch import Tensor

from countgen.critics import Critic
from countgen.files.schema import Document, Whole
from countgen.prompts import Target

LOWEST, HIGHEST = -3.0, 2.0
"""Margins beyond these say no more than these."""

MOST_CERTAIN = 8.0
"""Largest log odds of an acceptance that no number of images bounds more tightly."""

Slope = Annotated[float, Meta(ge=0)]


class Prior(Document, frozen=True):
    """The log odds that a plain image of a prompt has the right count, before any critic evaluates it.

    Attributes:
        intercept: log odds of one object.
        count: of the logarithm of the total count.
        classes: of each object class beyond the first.
    """

    intercept: float = 2.93
    count: float = -1.70
    classes: float = -1.88

    @staticmethod
    def features(targets: Sequence[Target]) -> tuple[float, float]:
        """Return the logarithm of the total count, at least 1, and the number of classes beyond the first."""
        total = sum(target.target_count for target in targets)
        return math.log(max(1, total)), len(targets) - 1.0

    def log_odds(self, targets: Sequence[Target]) -> float:
        """Return the log odds for the targets of a prompt."""
        log_count, more_classes = self.features(targets)
        return self.intercept + self.count * log_count + self.classes * more_classes


class Evidence(Document, frozen=True):
    """The log likelihood ratio of a right count and a wrong one, linear in the margins that were evaluated.

    Attributes:
        intercept: log ratio where every margin is 0.
        below, above: of the mean of the margins' negative parts, and of the mean of their positive parts.
    """

    intercept: float
    below: Slope
    above: Slope

    @staticmethod
    def features(margins: Tensor) -> tuple[Tensor, Tensor]:
        """Return the means (B,) of the negative and of the positive parts of margins (B, N)."""
        return margins.clamp(LOWEST, 0).mean(1), margins.clamp(0, HIGHEST).mean(1)

    def log_ratio(self, margins: Tensor) -> Tensor:
        """Return log likelihood ratios (B,) for margins (B, N); no margin lowers them as it grows."""
        below, above = self.features(margins)
        return self.intercept + self.below * below + self.above * above


class Acceptance(Document, frozen=True):
    """P(right): how often the independent judge agrees with a count, by the margins of the critics and the prompt.

    The log odds are those of the prior plus the log likelihood ratio of the margins. The defaults are those of the
    embedded models; `countgen.methods.acceptance_fit` fits those of another model.

    Attributes:
        prior: from the prompt alone.
        first: from the first critic, on the untransformed image.
        plain: from every critic, on the untransformed image.
        views: from every critic on every view.
        refined: added to the log odds of images that gradients have moved.
        highest: largest log odds; more images support a higher one.
        scales: by critic, what its margins are divided by, for critics whose logits have another range than others'.
        judge: that it was fitted to; empty if that was not recorded.
        images, confirmed, right: number of images that it was fitted to; of those that a fit to the other half of the
            seeds confirms; and of the right ones of these.
    """

    prior: Prior = Prior()
    first: Evidence = Evidence(intercept=0.51, below=1.56, above=1.67)
    plain: Evidence = Evidence(intercept=0.65, below=1.92, above=2.71)
    views: Evidence = Evidence(intercept=0.61, below=1.95, above=3.23)
    refined: float = 0.0
    highest: float = MOST_CERTAIN
    scales: dict[str, Annotated[float, Meta(gt=0)]] = field(
        default_factory={"miniature-yolo": 1.05, "miniature-heatmap": 17.6}.copy
    )
    judge: str = ""
    images: Whole = 0
    confirmed: Whole = 0
    right: Whole = 0

    def probability(
        self,
        evidence: Evidence,
        margins: Tensor,
        critics: Sequence[Critic],
        targets: Sequence[Target],
        *,
        refined: bool = False,
    ) -> Tensor:
        """Return P(right), float (B,).

        Args:
            evidence: one of the three kinds.
            margins: (B, N).
            critics: of the margins.
            targets: of the prompt.
            refined: whether gradients have moved the images.
        """
        scales = margins.new_tensor([self.scales.get(critic.name, 1.0) for critic in critics])
        log_odds = evidence.log_ratio(margins / scales) + self.prior.log_odds(targets) + self.refined * refined
        return log_odds.clamp(max=self.highest).sigmoid()
