"""What a GPU and its graphs ask of critics, checked without one."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from countgen import critics
from countgen.critics.losses import LOSSES
from tests.contract.pictures import CLASSES, SIDE, networks_in
from tests.contract.tiny_detectors import ONE_OF_A_KIND, tiny

BY_SHAPE = (
    *("miniature-yolo", "yolo-world", "ultralytics-rtdetr", "detr", "rtdetr", "ssd", "fcos", "nanodet"),
    "miniature-heatmap",
)
"""Detectors that read no values of tensors, which fake ones lack."""
COPYING = {"tensor", "as_tensor", "new_tensor", "from_numpy", "frombuffer"}
FOLDER = str(Path(critics.__file__).parent)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", BY_SHAPE)
def test_proposals_are_computed_on_the_gpu(name: str, dtype: torch.dtype) -> None:
    critic = copy.deepcopy(tiny(name))

    def moved(tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor, device="cuda", dtype=dtype if tensor.is_floating_point() else None)

    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        (network,) = networks_in(critic)
        network._apply(moved)
        if hasattr(network, "stride"):
            network.model[-1].stride = [8, 16, 32]  # Ultralytics reads their values
        for attribute in ("embeddings", "_columns"):
            if hasattr(critic, attribute):
                setattr(critic, attribute, moved(getattr(critic, attribute)))
        proposals = critic.propose(torch.empty(2, 3, SIDE, SIDE, device="cuda", dtype=dtype), ["apple", "dog"])
    assert (proposals.boxes.device.type, proposals.logits.device.type) == ("cuda", "cuda")
    assert proposals.logits.dtype in (dtype, torch.float32)
    assert len(proposals.columns) == 2


class HostData(TorchFunctionMode):
    """Notes where our own files turn numbers of the host into tensors, lists as indices included."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        index = args[1] if name == "__getitem__" else ()
        listed = any(isinstance(entry, list) for entry in (index if isinstance(index, tuple) else (index,)))
        caller = sys._getframe(1)
        if (name in COPYING or listed) and caller.f_code.co_filename.startswith(FOLDER):
            self.places.append(f"{caller.f_code.co_filename}:{caller.f_lineno} {name}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", [name for name in ONE_OF_A_KIND if name != "grounding-dino"])  # it tokenizes anew
def test_an_evaluation_copies_nothing_from_the_host_as_cuda_graphs_require(name: str) -> None:
    critic = tiny(name)
    wanted = {(critic.object_names or CLASSES)[0]: 3}
    images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    critic.evaluate(images, wanted, LOSSES["margin"])  # makes what is made once
    with HostData() as mode:
        critic.evaluate(images, wanted, LOSSES["margin"])
    assert mode.places == []
