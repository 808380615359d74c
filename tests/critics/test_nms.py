"""Non-maximum suppression keeps what torchvision's keeps, in blocks, box by box, and in the fixed passes of a graph.

Corners are whole numbers and thresholds multiples of 1/32, so that no overlap is rounded across a threshold.
"""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor
from torchvision.ops import nms

from countgen.critics import nms as suppression
from countgen.critics.nms import CAPTURED_PASSES, _passed, unsuppressed

pytestmark = pytest.mark.core


def scattered(number: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 128, (3, number, 2), generator=generator).float()
    return torch.cat([corner, corner + torch.randint(4, 25, (3, number, 2), generator=generator)], -1)


def chain(length: int) -> Tensor:
    """Boxes in a row, each overlapping its neighbours alone: (1, length, 4)."""
    left = 4 * torch.arange(length, dtype=torch.float32)
    return torch.stack([left, torch.zeros(length), left + 10, torch.full((length,), 10.0)], -1)[None]


def kept_by_torchvision(boxes: Tensor, iou: float) -> Tensor:
    kept = torch.zeros(boxes.shape[:2], dtype=torch.bool)
    for row, image_boxes in enumerate(boxes):
        kept[row, nms(image_boxes, -torch.arange(boxes.shape[1]).float(), iou)] = True
    return kept


@pytest.mark.parametrize("number", [1, 2, 40, 300, 700])
def test_what_is_kept_is_what_torchvision_keeps(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = scattered(number, seed=number)
    for iou, block, few in product((0.09375, 0.4375, 0.6875, 0.9375), (100, 1024), (0, 10_000)):
        monkeypatch.setattr(suppression, "BLOCK", block)
        monkeypatch.setattr(suppression, "FEW_BOXES", few)  # above it, one by one on a CPU
        assert torch.equal(unsuppressed(boxes, iou), kept_by_torchvision(boxes, iou)), (iou, block, few)


def test_a_box_turned_inside_out_covers_nothing() -> None:
    boxes = torch.tensor([[[20.0, 20.0, 10.0, 30.0], [0.0, 0.0, 5.0, 5.0], [50.0, 50.0, 60.0, 60.0]]])
    assert unsuppressed(boxes, 0.5).all()


def test_the_passes_of_a_graph_keep_what_nms_keeps_and_a_chain_needs_one_for_each_box_but_one() -> None:
    for boxes in (chain(CAPTURED_PASSES), scattered(1024, 1), torch.zeros(1, 5, 4)):
        kept = _passed(boxes, 0.40625, None, CAPTURED_PASSES).bool()
        assert torch.equal(kept, kept_by_torchvision(boxes, 0.40625))
    assert _passed(chain(10), 0.25, None, 9).bool()[0].tolist() == [True, False] * 5
    assert _passed(chain(10), 0.25, None, 8).bool()[0].tolist() != [True, False] * 5
