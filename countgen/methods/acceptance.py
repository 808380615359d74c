"""The probability that an image has the right count, from the margins of critics and views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, field
from torch import Tensor

from countgen.critics import Critic
from countgen.files.schema import Document, Whole

LOWEST, HIGHEST = -3.0, 2.0
"""Margins beyond these say no more than these."""

Slope = Annotated[float, Meta(ge=0)]


class Evidence(Document, frozen=True):
    """The log odds of a right count, linear in the margins that were evaluated.

    Attributes:
        intercept: log odds where every margin is 0.
        below, above: of the mean of the margins' negative parts, and of the mean of their positive parts.
    """

    intercept: float
    below: Slope
    above: Slope

    @staticmethod
    def features(margins: Tensor) -> tuple[Tensor, Tensor]:
        """Return the means (B,) of the negative and of the positive parts of margins (B, N)."""
        return margins.clamp(LOWEST, 0).mean(1), margins.clamp(0, HIGHEST).mean(1)

    def log_odds(self, margins: Tensor) -> Tensor:
        """Return log odds (B,) for margins (B, N); no margin lowers them as it grows."""
        below, above = self.features(margins)
        return self.intercept + self.below * below + self.above * above


class Acceptance(Document, frozen=True):
    """P(right): how often the independent judge agrees with a count, by the margins of the critics.

    The defaults are those of the embedded models; `countgen.methods.acceptance_fit` fits those of another model.

    Attributes:
        first: from the first critic, on the untransformed image.
        plain: from every critic, on the untransformed image.
        views: from every critic on every view.
        least: from the least of these margins alone, not scaled, if it says more: a count that no critic is close to
            changing on any view is right even if most margins are small.
        refined: added to the log odds of images that gradients have moved: optimisation exploits mistakes of critics.
        scales: by critic, what its margins are divided by, for critics whose logits have another range than others'.
        judge: that it was fitted to; empty if that was not recorded.
        images, confirmed, right: number of images that it was fitted to; of those that a fit to the other half of the
            seeds confirms; and of the right ones of these.
    """

    first: Evidence = Evidence(intercept=-0.6, below=1.2, above=2.1)
    plain: Evidence = Evidence(intercept=-0.5, below=1.5, above=3.1)
    views: Evidence = Evidence(intercept=-0.5, below=1.5, above=3.6)
    least: Evidence = Evidence(intercept=1.0, below=10.0, above=3.0)
    refined: float = -0.4
    scales: dict[str, Annotated[float, Meta(gt=0)]] = field(default_factory={"miniature-heatmap": 15.0}.copy)
    judge: str = ""
    images: Whole = 0
    confirmed: Whole = 0
    right: Whole = 0

    def probability(
        self, evidence: Evidence, margins: Tensor, critics: Sequence[Critic], *, refined: bool = False
    ) -> Tensor:
        """Return P(right), float (B,).

        Args:
            evidence: one of the three kinds.
            margins: (B, N).
            critics: of the margins.
            refined: whether gradients have moved the images.
        """
        scales = margins.new_tensor([self.scales.get(critic.name, 1.0) for critic in critics])
        log_odds = evidence.log_odds(margins / scales)
        if evidence is self.views:
            log_odds = log_odds.maximum(self.least.log_odds(margins.amin(1, keepdim=True)))
        return (log_odds + self.refined * refined).sigmoid()
