"""Look at pictures with one or several critics, on several views, and say whether the count is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from countgen.prompts import Target
from critics.base import Critic
from critics.candidates import Candidates
from critics.losses import CountLoss


@dataclass(frozen=True)
class View:
    """A way to look at a picture that leaves its count as it is.

    Attributes:
        mirror: left and right exchanged.
        scale: how much larger than its usual size the detector sees the picture.
    """

    mirror: bool = False
    scale: float = 1.0


PLAIN = (View(),)
CONFIRMING = (View(), View(mirror=True), View(scale=1.125))
"""An optimiser finds what its critic overlooks; what fools one view rarely fools three."""


@dataclass(frozen=True)
class Verdict:
    """What the critics say about a batch of pictures.

    Attributes:
        loss: float32 (B,), with gradient; summed over targets and critics, averaged over the views that a
            critic tells apart.
        soft_counts: float32 (B, T), the first critic's on the first view.
        counts: int64 (B, T), from the same forward pass.
        margin: float32 (B,), no gradient: the smallest over critics, views and targets, each in units of what that
            critic asks for (`Critic.margin`); above 0 where every count is right, trusted from 1 on.
    """

    loss: Tensor
    soft_counts: Tensor
    counts: Tensor
    margin: Tensor


def examine(
    images: Tensor,
    targets: Sequence[Target],
    critics: Sequence[Critic],
    views: Sequence[View],
    loss: CountLoss,
) -> Verdict:
    """Count every target on every view with every critic.

    Args:
        images: RGB float (B, 3, H, W) in [0, 1]; gradient of the loss flows back to them.
        targets: at least one.
        critics: at least one; the first one's counts are reported.
        views: at least one; the first is the one reported.
        loss: from `critics.losses`.
    """
    total = images.new_zeros(len(images), dtype=torch.float32)
    target_counts = {target.object_name: target.target_count for target in targets}
    margins: list[Tensor] = []
    first = None
    for critic in critics:
        apart = list(dict.fromkeys(_told_apart(view, critic) for view in views))
        for scale in dict.fromkeys(view.scale for view in apart):
            # Views of one size share a forward pass.
            seen = [_seen(view, images) for view in apart if view.scale == scale]
            assessment = _at(critic, scale).assess(torch.cat(seen), target_counts, loss)
            total = total + assessment.loss.unflatten(0, (len(seen), -1)).sum(0) / len(apart)
            margins += assessment.margin.chunk(len(seen))
            first = first or assessment
    if first is None:
        raise ValueError(f"examine needs at least one critic and one view, got {len(critics)} and {len(views)}")
    own = slice(len(images))
    return Verdict(total, first.soft_counts[own].detach(), first.counts[own], torch.stack(margins, 1).amin(1))


def _told_apart(view: View, critic: Critic) -> View:
    """The view as a critic has it: one whose input size is fixed sees a larger picture as it saw the first."""
    return View(view.mirror) if _at(critic, view.scale) is critic else view


def _seen(view: View, images: Tensor) -> Tensor:
    return images.flip(-1) if view.mirror else images


def _at(critic: Critic, scale: float) -> Critic:
    return critic if scale == 1 else critic.at_scale(scale)


def look(critic: Critic, images: Tensor, object_names: Sequence[str], view: View) -> tuple[Candidates, ...]:
    """A detector's candidates on one view."""
    return _at(critic, view.scale).candidates(_seen(view, images), object_names)
