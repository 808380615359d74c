"""Evaluate judges on images, and write their counts and detections as record fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from countgen.benchmarks.evaluation.records import Box
from countgen.critics import NO_ANSWER, Critic, Detections
from countgen.critics.detections import mean_score

Judged = tuple[tuple[int, ...], tuple[Detections, ...]]
"""Counts, with `NO_ANSWER` for none, and detections per object name; no detections from a judge that only counts."""


def judged(judge: Critic, images: Tensor, object_names: Sequence[str]) -> list[Judged]:
    """Return a judge's counts and detections in each image of a batch.

    Args:
        judge: a detector that did not steer the images.
        images: RGB float (B, 3, H, W) in [0, 1].
        object_names: to count.
    """
    if not judge.detects:
        return [(tuple(counts), ()) for counts in judge.counts(images, object_names).tolist()]
    return [(tuple(map(len, detections)), detections) for detections in judge.detect(images, object_names)]


def answered(counts: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return counts as they are; None where a judge gave no answer for some object."""
    return None if NO_ANSWER in counts else counts


def record_fields(judged_by_name: Mapping[str, Judged]) -> dict[str, Any]:
    """Return the fields of a `Record` with the counts and detections of each judge, by its name.

    A judge without an answer has no counts.
    """
    return {
        "judge_counts": {name: counts for name, (counts, _) in judged_by_name.items() if answered(counts) is not None},
        "confidence": {name: round(mean_score(detections), 4) for name, (_, detections) in judged_by_name.items()},
        "boxes": {name: rounded_boxes(detections) for name, (_, detections) in judged_by_name.items()},
    }


def rounded_boxes(detections: Sequence[Detections]) -> tuple[Box, ...]:
    """Return the boxes of all detections in whole pixels."""
    corners = (box for one in detections for box in one.boxes.round().int().tolist())
    return tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in corners)
