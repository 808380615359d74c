"""What a record keeps of a judge's detections in one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from benchmarks.evaluation.records import Box
from critics import Critic
from critics.detections import mean_score


@dataclass(frozen=True)
class Judgement:
    """The counts and detections of a judge in one image.

    Attributes:
        counts: per object name.
        confidence: mean class probability of the detections, 0 where there are none.
        boxes: of the detections, absolute-pixel xyxy, rounded.
    """

    counts: tuple[int, ...]
    confidence: float
    boxes: tuple[Box, ...]


def judged(judge: Critic, image: Tensor, object_names: Sequence[str]) -> Judgement:
    """Return what a judge detects; a judge that counts without detecting has counts alone.

    Args:
        judge: a detector that did not steer the image.
        image: RGB float (3, H, W) in [0, 1].
        object_names: to count.
    """
    if not judge.detects:
        return Judgement(tuple(judge.counts(image[None], object_names)[0].tolist()), 0.0, ())
    (detections,) = judge.detect(image[None], object_names)
    boxes = [(x1, y1, x2, y2) for one in detections for x1, y1, x2, y2 in one.boxes.round().int().tolist()]
    return Judgement(tuple(map(len, detections)), round(mean_score(detections), 4), tuple(boxes))
