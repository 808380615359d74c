"""Decide which candidates are detections: the hard count and the boxes of every critic that detects come from here.

Critics without boxes round the sum of their density map instead, see `critics/detectors/density.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from countgen.critics.candidates import Candidates


@dataclass(frozen=True)
class Detections:
    """The detected objects of one class in one image; `len()` is the count.

    Attributes:
        boxes: float (N, 4) absolute-pixel xyxy, best first, no gradient.
        scores: float (N,) class probabilities in (0, 1), above the critic's threshold.
        object_name: as it was passed to `Critic.detect`.
    """

    boxes: Tensor
    scores: Tensor
    object_name: str

    def __len__(self) -> int:
        return len(self.scores)


def is_detection(candidates: Candidates, threshold_logit: float) -> Tensor:
    """Return which candidates are detections: kept by non-maximum suppression and above the threshold, bool (B, K)."""
    return candidates.kept & (candidates.logits > threshold_logit)


def hard_count(candidates: Candidates, threshold_logit: float) -> Tensor:
    """Return the number of detections in each image: int64 (B,)."""
    return is_detection(candidates, threshold_logit).sum(1)


def detections_of(candidates: Candidates, threshold_logit: float, object_name: str) -> list[Detections]:
    """Return the detections of each image of a batch, best first and without gradient."""
    mask = is_detection(candidates, threshold_logit)
    scores = candidates.logits.detach().sigmoid()
    return [
        Detections(candidates.boxes[row, mask[row]], scores[row, mask[row]], object_name) for row in range(len(mask))
    ]


def mean_score(detections: tuple[Detections, ...]) -> float:
    """Return the mean class probability over the detections of several classes; 0 where there are none."""
    scores = torch.cat([objects.scores for objects in detections]) if detections else torch.empty(0)
    return float(scores.mean()) if len(scores) else 0.0
