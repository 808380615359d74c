"""Look at pictures with one or several critics, on several views, and say whether the count is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from countgen.prompts import Target
from critics.base import Candidates, Critic
from critics.losses import CountLoss
from critics.soft_indicator import hard_count, margin, soft_count


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
        loss: float32 (B,), with gradient; summed over targets and critics, averaged over views.
        soft_counts: float32 (B, T), the first critic's on the first view.
        counts: int64 (B, T), from the same forward pass.
        margin: float32 (B,), no gradient: the smallest over critics, views and targets, in units of the
            margin each critic asks for.
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
    margins = []
    soft: list[Tensor] = []
    hard: list[Tensor] = []
    names = [target.object_name for target in targets]
    for critic in critics:
        for view in views:
            found = look(critic, images, names, view)
            for target, candidates in zip(targets, found, strict=True):
                total = total + loss(candidates, target.target_count, critic.threshold_logit) / len(views)
                margins.append(margin(candidates, target.target_count, critic.threshold_logit) / critic.margin)
            if not hard:
                soft = [soft_count(c, critic.threshold_logit, critic.steepness) for c in found]
                hard = [hard_count(c, critic.threshold_logit) for c in found]
    return Verdict(total, torch.stack(soft, 1).detach(), torch.stack(hard, 1), torch.stack(margins, 1).amin(1).detach())


def look(critic: Critic, images: Tensor, object_names: Sequence[str], view: View) -> tuple[Candidates, ...]:
    """A critic's candidates on one view."""
    if view.mirror:
        images = images.flip(-1)
    if view.scale != 1:
        critic = critic.at_scale(view.scale)
    return critic.candidates(images, object_names)
