"""What the nodes use of ComfyUI, which no package index has: types of sockets, schemas, progress and interruption."""

import sys
import types
from dataclasses import dataclass, field
from typing import Any

progress: list[int] = []
"""Values that progress bars were set to."""


class InterruptError(Exception):
    """Raised in a node that the user stops, as ComfyUI does."""


@dataclass
class Socket:
    """An input or output: its identifier and the options it was declared with."""

    id: str
    options: dict[str, Any] = field(default_factory=dict)


class SocketType:
    """A type of sockets."""

    @staticmethod
    def Input(id: str, **options: Any) -> Socket:
        return Socket(id, options)

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

    def validate(self) -> None:
        ids = [socket.id for socket in (*self.inputs, *self.outputs)]
        assert len(set(ids)) == len(ids), ids


class ComfyNode:
    """Base of nodes."""

    @classmethod
    def GET_SCHEMA(cls) -> Schema:
        schema = cls.define_schema()
        schema.validate()
        return schema


class NodeOutput:
    """What a node returns."""

    def __init__(self, *args: Any) -> None:
        self.args = args


class ProgressBar:
    """Records the progress."""

    def __init__(self, total: int) -> None:
        self.total = total

    def update_absolute(self, value: int, preview: Any = None) -> None:
        assert preview is None or preview[0] == "JPEG"
        progress.append(value)


def modules() -> dict[str, types.ModuleType]:
    """Return ComfyUI's modules by name."""
    import torch

    def module(name: str, **members: Any) -> types.ModuleType:
        made = types.ModuleType(name)
        vars(made).update(members)
        return made

    names = ("Image", "Int", "Float", "String", "Boolean", "Combo", "BoundingBox")
    io = module("io", ComfyNode=ComfyNode, Schema=Schema, NodeOutput=NodeOutput, **dict.fromkeys(names, SocketType))
    management = module(
        "comfy.model_management",
        get_torch_device=lambda: torch.device("cpu"),
        throw_exception_if_processing_interrupted=lambda: None,
        unload_all_models=lambda: None,
    )
    return {
        "comfy": module("comfy", model_management=management),
        "comfy.model_management": management,
        "comfy.utils": module("comfy.utils", ProgressBar=ProgressBar),
        "comfy_api": module("comfy_api"),
        "comfy_api.latest": module("comfy_api.latest", ComfyExtension=object, io=io),
    }


def install() -> None:
    """Put the modules where `import` finds them."""
    sys.modules.update(modules())
