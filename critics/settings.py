"""The settings that every detector shares."""

from __future__ import annotations

import math
from dataclasses import dataclass

from countgen.critics.losses import STEEPNESS


@dataclass(frozen=True)
class CriticSettings:
    """What a user may change about any detector, as in `critics.load("yolo", weights=..., threshold=0.3)`.

    Attributes:
        threshold: class probability in (0, 1) above which a candidate is a detection.
        steepness: slope of the soft indicator per logit, above 0.
        nms_iou: intersection over union in (0, 1] above which two candidates are one object; None where the
            detector's training already removes duplicates.
        image_size: longer side of the detector's input in pixels; None where the detector chooses it itself.

    Raises:
        ValueError: a setting is outside its range.
    """

    threshold: float = 0.5
    steepness: float = STEEPNESS
    nms_iou: float | None = 0.5
    image_size: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold must be a probability above 0 and below 1, got {self.threshold}")
        if not 0 < self.steepness < math.inf:
            raise ValueError(f"steepness must be above 0, got {self.steepness}")
        if self.nms_iou is not None and not 0 < self.nms_iou <= 1:
            raise ValueError(f"nms_iou must be above 0 and at most 1, got {self.nms_iou}")
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"image_size must be at least 1 pixel, got {self.image_size}")

    @property
    def threshold_logit(self) -> float:
        """The threshold in logit space, log(t / (1 - t))."""
        return math.log(self.threshold / (1 - self.threshold))
