"""Non-maximum suppression (NMS) of a batch in torch alone, in a form that a CUDA graph can capture."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 1024
"""Number of boxes whose pairs are compared in one operation."""
FEW_BOXES = 512
"""Number of boxes up to which comparing all pairs is as fast on a CPU as torchvision's loop."""
CAPTURED_PASSES = 32
"""Number of NMS passes inside a CUDA graph, per block of boxes. A graph cannot test for convergence; images
of the embedded detectors need 6 to 14, of untrained detectors 20."""


def unsuppressed(boxes: Tensor, iou_threshold: float) -> Tensor:
    """Return which boxes greedy non-maximum suppression keeps, without data-dependent shapes.

    A box is kept unless a better box that is kept overlaps it by more than the threshold. This rule has one solution,
    which repeated passes from "all kept" reach in as many passes as the longest chain of overlaps.

    Args:
        boxes: (B, K, 4) xyxy, best first.
        iou_threshold: in (0, 1).

    Returns:
        bool (B, K), equal to `torchvision.ops.nms` image by image.
    """
    boxes = boxes.float()
    if boxes.shape[1] > FEW_BOXES and boxes.device.type == "cpu":
        return _unsuppressed_one_by_one(boxes, iou_threshold)
    captured = boxes.is_cuda and torch.cuda.is_current_stream_capturing()
    passes = CAPTURED_PASSES if captured else None
    kept = _passed(boxes[:, :BLOCK], iou_threshold, None, passes)
    for begin in range(BLOCK, boxes.shape[1], BLOCK):
        block = boxes[:, begin : begin + BLOCK]
        covers = _covers(boxes[:, :begin], block, iou_threshold)
        free = torch.einsum("bi,bij->bj", kept, covers) == 0
        kept = torch.cat([kept, _passed(block, iou_threshold, free, passes)], 1)
    return kept.bool()


def _covers(better: Tensor, boxes: Tensor, iou_threshold: float) -> Tensor:
    """Return whether box i of the better ones overlaps box j by more than the threshold: float (B, I, J) of 0 and 1."""
    x1, y1, x2, y2 = (side[:, :, None] for side in better.unbind(-1))
    left, top, right, bottom = (side[:, None] for side in boxes.unbind(-1))
    width = torch.minimum(x2, right) - torch.maximum(x1, left)
    height = torch.minimum(y2, bottom) - torch.maximum(y1, top)
    shared = width.clamp(min=0) * height.clamp(min=0)
    union = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top) - shared
    # A box whose right side is left of its left side, as untrained heads predict, has a negative area: no overlap.
    return ((shared > iou_threshold * union) & (union > 0)).float()


def _passed(boxes: Tensor, iou_threshold: float, free: Tensor | None, passes: int | None) -> Tensor:
    """Return which boxes of a block are kept, best first; those not `free` are suppressed already: float (B, K).

    The number of passes is fixed inside a CUDA graph; None repeats them until nothing changes.
    """
    covers = _covers(boxes, boxes, iou_threshold).triu(diagonal=1)
    start = kept = torch.ones_like(boxes[..., 0]) if free is None else free.float()
    for _ in range(passes or boxes.shape[1]):
        before, kept = kept, (torch.einsum("bi,bij->bj", kept, covers) == 0) * start
        if passes is None and torch.equal(before, kept):
            break
    return kept


def _unsuppressed_one_by_one(boxes: Tensor, iou_threshold: float) -> Tensor:
    # Imported here: it takes a second to load, and small detectors never need it.
    from torchvision.ops import nms

    best_first = -torch.arange(boxes.shape[1], dtype=torch.float32)
    kept = torch.zeros(boxes.shape[:2], dtype=torch.bool)
    for row, image_boxes in enumerate(boxes):
        kept[row, nms(image_boxes, best_first, iou_threshold)] = True
    return kept
