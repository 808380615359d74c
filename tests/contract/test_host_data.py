"""A CUDA graph cannot hold data of the host: no evaluation of a critic brings any, which needs no GPU to see."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from countgen import critics
from countgen.critics import Critic
from countgen.critics.losses import LOSSES
from tests.contract.conftest import ONE_OF_A_KIND
from tests.contract.pictures import CLASSES, SIDE

COPYING = {"tensor", "as_tensor", "new_tensor", "from_numpy", "frombuffer"}
FOLDER = str(Path(critics.__file__).parent)


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


def host_data_of(critic: Critic) -> list[str]:
    """Return where one evaluation copies from the host, after a first one that makes what is made once."""
    wanted = {(critic.object_names or CLASSES)[0]: 3}
    images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    critic.evaluate(images, wanted, LOSSES["margin"])
    with HostData() as mode:
        critic.evaluate(images, wanted, LOSSES["margin"])
    return mode.places


@pytest.mark.parametrize("name", [name for name in ONE_OF_A_KIND if name != "grounding-dino"])  # it tokenizes anew
def test_an_evaluation_brings_nothing_from_the_host(critics: Callable[[str], Critic], name: str) -> None:
    assert host_data_of(critics(name)) == []
