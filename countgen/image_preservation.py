"""Measure how much of an image a changed one preserves: objects, background pixels, background structure.

Images are RGB float (3, H, W) in [0, 1]. Boxes are (K, 4) absolute-pixel xyxy, those of the objects of both images, and
may extend beyond them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from countgen.critics import Critic, Detections
from countgen.prompts import Target

SAME_OBJECT_IOU = 0.5
"""Intersection over union above which a detection before and one after are the same object."""

LEAST_KEPT, MOST_CHANGED = 0.8, 0.1
"""Fraction of objects kept at least, and background changed at most, of an image that counts as the same image."""

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def is_same_image(before: Tensor, image: Tensor, detector: Critic, targets: Sequence[Target]) -> bool:
    """Return whether a changed image keeps `LEAST_KEPT` of the objects and all but `MOST_CHANGED` of the background.

    The targets are those of the changed image; the detector has boxes.
    """
    old, new = detector.detect(torch.stack([before, image]), [target.object_name for target in targets])
    kept = objects_kept(old, new, [target.target_count for target in targets])
    boxes = torch.cat([detections.boxes for detections in (*old, *new)])
    return kept >= LEAST_KEPT and background_change(before, image, boxes) <= MOST_CHANGED


def objects_kept(before: Sequence[Detections], after: Sequence[Detections], target_counts: Sequence[int]) -> float:
    """Return the fraction of an image's objects that are still in a changed image.

    Objects are matched one to one, as many as possible. Where fewer are wanted than there were, those that have to
    go are not counted: the denominator is min(number before, target count).

    Args:
        before, after, target_counts: one entry for each target.

    Returns:
        0 to 1 over all targets together; 1 if there was no object to keep.
    """
    kept = possible = 0
    for old, new, target_count in zip(before, after, target_counts, strict=True):
        most = min(len(old), target_count)
        kept += min(len(same_objects(old.boxes, new.boxes)), most)
        possible += most
    return kept / possible if possible else 1.0


def background_change(before: Tensor, image: Tensor, boxes: Tensor) -> float:
    """Return the mean absolute difference of two images' pixels outside all boxes, 0 to 1; 0 if no pixel is outside."""
    outside = ~inside_boxes(boxes, *image.shape[-2:])
    return float((image - before).abs().mean(0)[outside].mean()) if outside.any() else 0.0


def structural_similarity(before: Tensor, image: Tensor, boxes: Tensor) -> float:
    """Return the structural similarity (SSIM) of two images outside all boxes, averaged over the channels.

    Pixels inside the boxes are set equal, so that windows that reach into a box do not compare its content. The images
    have at least 11 pixels on each side.

    Returns:
        -1 to 1, 1 for equal images, and if no whole window is centred outside.

    Source: Wang et al. 2004: Gaussian window of 11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03, no padding.
    """
    inside = inside_boxes(boxes, *image.shape[-2:])
    first = before.double()
    second = torch.where(inside, first, image.double())
    mean_1, mean_2 = _blurred(first), _blurred(second)
    variance_1 = _blurred(first.square()) - mean_1.square()
    variance_2 = _blurred(second.square()) - mean_2.square()
    covariance = _blurred(first * second) - mean_1 * mean_2
    luminance = (2 * mean_1 * mean_2 + _C1) / (mean_1.square() + mean_2.square() + _C1)
    structure = (2 * covariance + _C2) / (variance_1 + variance_2 + _C2)
    edge = _WINDOW // 2
    outside = ~inside[edge:-edge, edge:-edge]
    return float((luminance * structure).mean(0)[outside].mean()) if outside.any() else 1.0


def inside_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return a mask of the pixels that lie in some box, wholly or in part: bool (height, width)."""
    inside = torch.zeros(height, width, dtype=torch.bool, device=boxes.device)
    for left, top, right, bottom in boxes.tolist():
        rows = slice(max(0, math.floor(top)), max(0, math.ceil(bottom)))
        columns = slice(max(0, math.floor(left)), max(0, math.ceil(right)))
        inside[rows, columns] = True
    return inside


def same_objects(before: Tensor, after: Tensor) -> dict[int, int]:
    """Return the largest one-to-one matching of boxes that are the same object.

    Returns:
        The index of a box before, by the index of the box after that it is matched with.
    """
    # Imported here: they take a second to load.
    from scipy.optimize import linear_sum_assignment
    from torchvision.ops import box_iou

    same = (box_iou(before.double(), after.double()) > SAME_OBJECT_IOU).cpu().numpy()
    rows, columns = linear_sum_assignment(same, maximize=True)
    return {int(column): int(row) for row, column in zip(rows, columns, strict=True) if same[row, column]}


def _blurred(image: Tensor) -> Tensor:
    """Return the image under the Gaussian window, channel by channel: (3, H - 10, W - 10)."""
    offset = torch.arange(_WINDOW, dtype=image.dtype, device=image.device) - _WINDOW // 2
    weights = (-offset.square() / (2 * _SIGMA**2)).exp()
    weights = weights / weights.sum()
    rows = conv2d(image[:, None], weights.view(1, 1, 1, -1))
    return conv2d(rows, weights.view(1, 1, -1, 1))[:, 0]
