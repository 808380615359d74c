"""Non-maximum suppression inside a CUDA graph: a fixed number of passes keeps what NMS keeps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import nms

from countgen.critics.nms import CAPTURED_PASSES, _covers, _passes


def chain(length: int, step: float) -> Tensor:
    """Boxes in a row, each overlapping its neighbours alone: (1, length, 4)."""
    left = step * torch.arange(length, dtype=torch.float32)
    return torch.stack([left, torch.zeros(length), left + 10, torch.full((length,), 10.0)], -1)[None]


def crowd(boxes: int, seed: int) -> Tensor:
    """Boxes around a few centres, as untrained detectors draw them: (2, boxes, 4)."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(2, 12, 2, generator=generator) * 100
    middle = centres.repeat(1, boxes // 12 + 1, 1)[:, :boxes] + torch.randn(2, boxes, 2, generator=generator) * 8
    half = 6 + 4 * torch.rand(2, boxes, 2, generator=generator)
    return torch.cat([middle - half, middle + half], -1)


@pytest.mark.parametrize(
    "boxes",
    [chain(CAPTURED_PASSES, 4.0), chain(CAPTURED_PASSES, 1.0), crowd(400, 0), crowd(1024, 1), torch.zeros(1, 5, 4)],
    ids=["a chain", "a tight chain", "a crowd", "a large crowd", "boxes without area"],
)
def test_the_passes_of_a_graph_keep_what_nms_keeps(boxes: Tensor) -> None:
    covers = _covers(boxes, boxes, 0.4).triu(diagonal=1)
    kept = _passes(covers, torch.ones_like(boxes[..., 0]), CAPTURED_PASSES).bool()
    for row, one in enumerate(boxes):
        expected = nms(one, -torch.arange(len(one), dtype=torch.float32), 0.4)
        assert kept[row].nonzero()[:, 0].tolist() == sorted(expected.tolist())


def test_one_pass_less_than_a_chain_is_long_is_too_few() -> None:
    boxes = chain(10, 4.0)
    covers, start = _covers(boxes, boxes, 0.4).triu(diagonal=1), torch.ones(1, 10)
    assert _passes(covers, start, 9).bool()[0].tolist() == [True, False] * 5
    assert _passes(covers, start, 8).bool()[0].tolist() != [True, False] * 5
