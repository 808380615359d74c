"""Boxes on which two detectors agree."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_iou

from countgen.critics import Detections

MIN_IOU = 0.5


class Box(Struct, frozen=True, array_like=True, gc=False):
    """An annotated object: the mean of the boxes of critic and judge.

    Attributes:
        object_name: its class.
        left, top, right, bottom: absolute pixels, inside the image.
        critic_score, judge_score: class probability by each detector.
        iou: of the two boxes.
    """

    object_name: str
    left: float
    top: float
    right: float
    bottom: float
    critic_score: float
    judge_score: float
    iou: float

    @property
    def xywh(self) -> tuple[float, float, float, float]:
        """Left, top, width and height."""
        return self.left, self.top, round(self.right - self.left, 2), round(self.bottom - self.top, 2)


def agreed_boxes(critic: Detections, judge: Detections, width: int, height: int) -> tuple[Box, ...] | None:
    """Return the mean boxes of one class, top left first; None unless all match one to one with an IoU of `MIN_IOU`.

    The assignment maximises the sum of the IoUs.
    """
    if len(critic) != len(judge):
        return None
    ious = box_iou(critic.boxes.cpu(), judge.boxes.cpu()).numpy()
    rows, columns = linear_sum_assignment(ious, maximize=True)
    if (ious[rows, columns] < MIN_IOU).any():
        return None
    means = np.clip(
        (critic.boxes.cpu().numpy()[rows] + judge.boxes.cpu().numpy()[columns]) / 2, 0, [width, height, width, height]
    )
    scores = critic.scores[rows].tolist(), judge.scores[columns].tolist(), ious[rows, columns].tolist()
    boxes = []
    for mean, *of_box in zip(means.tolist(), *scores, strict=True):
        left, top, right, bottom = (round(corner, 2) for corner in mean)
        boxes.append(Box(critic.object_name, left, top, right, bottom, *(round(score, 4) for score in of_box)))
    return tuple(sorted(boxes, key=lambda box: (box.top, box.left)))
