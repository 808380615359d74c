"""Evaluate judges on an image, and write their counts and detections as record fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from benchmarks.evaluation.records import Box
from critics import Critic, Detections
from critics.detections import mean_score

Judged = tuple[tuple[int, ...], tuple[Detections, ...]]
"""Counts and detections per object name; no detections from a judge that counts without detecting."""


def judged(judge: Critic, image: Tensor, object_names: Sequence[str]) -> Judged:
    """Return a judge's counts and detections in an image.

    Args:
        judge: a detector that did not steer the image.
        image: RGB float (3, H, W) in [0, 1].
        object_names: to count.
    """
    if not judge.detects:
        return tuple(judge.counts(image[None], object_names)[0].tolist()), ()
    (detections,) = judge.detect(image[None], object_names)
    return tuple(map(len, detections)), detections


def record_fields(found: Mapping[str, Judged]) -> dict[str, Any]:
    """Return the fields of a `Record` with the counts and detections of each judge, by its name."""
    return {
        "judge_counts": {name: counts for name, (counts, _) in found.items()},
        "confidence": {name: round(mean_score(detections), 4) for name, (_, detections) in found.items()},
        "boxes": {name: _boxes(detections) for name, (_, detections) in found.items()},
    }


def _boxes(detections: Sequence[Detections]) -> tuple[Box, ...]:
    corners = (box for one in detections for box in one.boxes.round().int().tolist())
    return tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in corners)
