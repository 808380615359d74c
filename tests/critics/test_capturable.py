"""What a CUDA graph cannot hold, looked for without a GPU: data of the host amid a look, loops that end early."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torchvision.ops import nms

from critics.base import Critic
from critics.losses import LOSSES
from critics.nms import CAPTURED_PASSES, _covers, _passes
from tests.contract.conftest import BUILDERS
from tests.contract.pictures import CLASSES, SIDE

COPYING = {"tensor", "as_tensor", "new_tensor", "from_numpy", "frombuffer"}
FOLDER = str(Path(sys.modules["critics"].__file__ or "").parent)


class HostData(TorchFunctionMode):
    """Notes where our own files turn numbers of the host into tensors, lists as indices included."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        index = args[1] if name == "__getitem__" else ()
        listed = any(isinstance(part, list) for part in (index if isinstance(index, tuple) else (index,)))
        caller = sys._getframe(1)
        if (name in COPYING or listed) and caller.f_code.co_filename.startswith(FOLDER):
            self.found.append(f"{caller.f_code.co_filename}:{caller.f_lineno} {name}")
        return func(*args, **(kwargs or {}))


def host_data_of(critic: Critic) -> list[str]:
    """Of one look, after a first one that makes what is made once."""
    wanted = {(critic.object_names or CLASSES)[0]: 3}
    images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    critic.evaluate(images, wanted, LOSSES["margin"])
    with HostData() as mode:
        critic.evaluate(images, wanted, LOSSES["margin"])
    return mode.found


@pytest.mark.parametrize("name", [name for name in BUILDERS if name != "grounding-dino"])  # it tokenizes anew
def test_a_look_brings_nothing_from_the_host(name: str, tmp_path: Path) -> None:
    assert host_data_of(BUILDERS[name](tmp_path)) == []


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
