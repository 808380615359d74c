"""What the nodes use of ComfyUI, which no package index has: types of sockets, schemas, progress and interruption."""

import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

progress: list[int] = []
"""Values that progress bars were set to."""


class InterruptError(Exception):
    """Raised in a node that the user stops, as ComfyUI does."""


class Socket:
    """An input or output, by its identifier; also what declares one."""

    def __init__(self, id: str, **options: Any) -> None:
        self.id = id

    @classmethod
    def Input(cls, id: str, **options: Any) -> "Socket":
        return cls(id, **options)

    Output = Input


@dataclass
class Schema:
    """A node's description; identifiers must be unique within the node."""

    node_id: str
    display_name: str
    category: str
    description: str
    inputs: list[Socket]
    outputs: list[Socket]

    def __post_init__(self) -> None:
        ids = [socket.id for socket in (*self.inputs, *self.outputs)]
        assert len(set(ids)) == len(ids), ids


class ComfyNode:
    """Base of nodes."""

    @classmethod
    def GET_SCHEMA(cls) -> Schema:
        return cls.define_schema()


class NodeOutput:
    """What a node returns."""

    def __init__(self, *args: Any) -> None:
        self.args = args


class ProgressBar:
    """Records the progress."""

    def __init__(self, total: int) -> None:
        pass

    def update_absolute(self, value: int, preview: Any = None) -> None:
        progress.append(value)


def install() -> None:
    """Put ComfyUI's modules where `import` finds them."""
    names = ("comfy", "comfy.model_management", "comfy.utils", "comfy_api", "comfy_api.latest")
    modules: dict[str, Any] = {name: ModuleType(name) for name in names}
    management = modules["comfy"].model_management = modules["comfy.model_management"]
    management.get_torch_device = lambda: torch.device("cpu")
    management.throw_exception_if_processing_interrupted = management.unload_all_models = lambda: None
    modules["comfy.utils"].ProgressBar = ProgressBar
    sockets = dict.fromkeys(("Image", "Int", "String", "Boolean", "Combo", "BoundingBox"), Socket)
    latest = modules["comfy_api.latest"]
    latest.ComfyExtension = object
    latest.io = SimpleNamespace(ComfyNode=ComfyNode, Schema=Schema, NodeOutput=NodeOutput, **sockets)
    sys.modules.update(modules)
