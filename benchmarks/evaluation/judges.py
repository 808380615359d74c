"""Evaluate an image by a detector that did not steer it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.evaluation.records import Box
from critics import Critic


@dataclass(frozen=True)
class Judgement:
    """The detections of a judge in one image.

    Attributes:
        counts: per object name.
        confidence: mean class probability of what it counted, 0 where it counted nothing.
        boxes: of what it counted, absolute-pixel xyxy.
    """

    counts: tuple[int, ...]
    confidence: float
    boxes: tuple[Box, ...]


@torch.no_grad()
def judge(critic: Critic, image: Tensor, object_names: Sequence[str]) -> Judgement:
    """Count, and return the boxes of what was counted; a judge without detections returns none.

    Args:
        critic: the judge.
        image: RGB float (3, H, W) in [0, 1].
        object_names: to count.
    """
    judged = counts(critic, image, object_names)
    try:
        found = critic.candidates(image[None], object_names)
    except TypeError:  # a critic's promise, where it has no boxes
        return Judgement(judged, 0.0, ())
    counted = [one.kept[0] & (one.logits[0] > critic.threshold_logit) for one in found]
    boxes = torch.cat([one.boxes[0, mask] for one, mask in zip(found, counted, strict=True)])
    logits = torch.cat([one.logits[0, mask] for one, mask in zip(found, counted, strict=True)])
    confidence = round(float(logits.sigmoid().mean()), 4) if len(logits) else 0.0
    return Judgement(judged, confidence, tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in boxes.round().int().tolist()))


@torch.no_grad()
def counts(critic: Critic, image: Tensor, object_names: Sequence[str]) -> tuple[int, ...]:
    """Return the count of a judge in one image, per object name."""
    return tuple(critic.counts(image[None], object_names)[0].tolist())
