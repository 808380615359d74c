"""The objective: several critics on several views of an image, as one evaluation with gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from countgen.critics import Critic, Evaluation, losses
from countgen.critics.losses import CountLoss
from countgen.prompts import Target


@dataclass(frozen=True)
class View:
    """A transformation of an image that does not change its count.

    Attributes:
        mirror: flip the image horizontally.
        scale: factor on the detector's input size.
    """

    mirror: bool = False
    scale: float = 1.0

    def __str__(self) -> str:
        return "in its mirror image" if self.mirror else "in the image" if self.scale == 1 else "in the image enlarged"


PLAIN_VIEW = (View(),)
CONFIRMATION_VIEWS = (View(), View(mirror=True), View(scale=1.125))
"""An optimiser exploits mistakes of its critic; a count is confirmed when the counts on all of these views agree."""


@dataclass(frozen=True)
class Objective:
    """The target counts of images, evaluated by several critics on several views.

    Attributes:
        critics: at least one; the first one's counts are reported.
        targets: at least one.
        views: at least one; the first one's counts are reported.
        loss: a name in `countgen.critics.losses.available()`, or a function like those there.

    Raises:
        ValueError: no critic or no view.
    """

    critics: tuple[Critic, ...]
    targets: tuple[Target, ...]
    views: tuple[View, ...]
    loss: str | CountLoss = "margin"

    def __post_init__(self) -> None:
        if not self.critics or not self.views:
            raise ValueError(
                f"an objective needs at least one critic and one view, got {len(self.critics)} and {len(self.views)}"
            )

    @property
    def columns(self) -> tuple[Critic, ...]:
        """The critic of each margin."""
        return tuple(critic for critic in self.critics for _ in distinct_views(self.views, critic))

    def evaluate(self, images: Tensor) -> Evaluation:
        """Evaluate every target on every view with every critic; the margins are (B, N), as `columns` says.

        Args:
            images: RGB float (B, 3, H, W) in [0, 1]; gradient of the loss flows back to them.
        """
        loss = losses.load(self.loss)
        total = images.new_zeros(len(images), dtype=torch.float32)
        target_counts = {target.object_name: target.target_count for target in self.targets}
        margins: list[Tensor] = []
        first = None
        for critic in self.critics:
            views = distinct_views(self.views, critic)
            for scale in dict.fromkeys(view.scale for view in views):
                # Views of one size share a forward pass.
                transformed = [_transformed(images, view) for view in views if view.scale == scale]
                evaluation = _at_scale(critic, scale).evaluate(torch.cat(transformed), target_counts, loss)
                total = total + evaluation.loss.unflatten(0, (len(transformed), -1)).sum(0) / len(views)
                margins += evaluation.margin.chunk(len(transformed))
                first = first or evaluation
        assert first is not None
        own = slice(len(images))
        return Evaluation(total, first.soft_counts[own].detach(), first.counts[own], torch.stack(margins, 1))


def distinct_views(views: Sequence[View], critic: Critic) -> list[View]:
    """Return the views that differ for a critic: one whose input size is fixed evaluates every scale alike."""
    effective = (View(view.mirror) if _at_scale(critic, view.scale) is critic else view for view in views)
    return list(dict.fromkeys(effective))


def _transformed(images: Tensor, view: View) -> Tensor:
    return images.flip(-1) if view.mirror else images


def _at_scale(critic: Critic, scale: float) -> Critic:
    return critic if scale == 1 else critic.at_scale(scale)
