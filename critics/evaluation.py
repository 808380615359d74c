"""The evaluation of images against target counts, by one critic or by several."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Evaluation:
    """The loss, counts and margin of a batch of images, by one critic or by an objective of several critics and views.

    Attributes:
        loss: float32 (B,), with gradient; summed over object classes and critics, averaged over views.
        soft_counts: float32 (B, T), one column per object class; the first critic's on the first view.
        counts: int64 (B, T), hard counts from the same forward pass.
        margin: float32 (B,), no gradient: safety of the counts. The minimum over classes of the distance between the
            threshold and the nearest candidate that would change the count if it crossed, divided by
            `Critic.safe_distance`. 0 or below: some count is wrong; above 0: every count is right. From an objective
            (B, N), one for each critic and view.
    """

    loss: Tensor
    soft_counts: Tensor
    counts: Tensor
    margin: Tensor
