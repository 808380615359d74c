"""What the nodes use of ComfyUI, which no package index has: types of sockets, schemas, progress and interruption."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

progress: list[int] = []
"""Values that progress bars were set to."""


def socket(id: str, **options: Any) -> SimpleNamespace:
    """Declare an input or output."""
    return SimpleNamespace(id=id, **options)


class ExecutionBlocker:
    """In place of an output that shall not be used."""

    def __init__(self, message: str | None) -> None:
        self.message = message


class ComfyNode:
    """Base of nodes."""

    @classmethod
    def GET_SCHEMA(cls) -> SimpleNamespace:
        return cls.define_schema()


def install() -> None:
    """Put ComfyUI's modules where `import` finds them."""
    names = ("comfy", "comfy.model_management", "comfy.utils", "comfy_api", "comfy_api.latest")
    names += ("comfy_execution", "comfy_execution.graph")
    modules: dict[str, Any] = {name: ModuleType(name) for name in names}
    management = modules["comfy"].model_management = modules["comfy.model_management"]
    management.get_torch_device = lambda: torch.device("cpu")
    management.throw_exception_if_processing_interrupted = management.unload_all_models = lambda: None
    bar = SimpleNamespace(update_absolute=lambda value, preview: progress.append(value))
    modules["comfy.utils"].ProgressBar = lambda total: bar
    sockets = SimpleNamespace(Input=socket, Output=socket)
    modules["comfy_api.latest"].ComfyExtension = object
    modules["comfy_api.latest"].io = SimpleNamespace(
        ComfyNode=ComfyNode,
        Schema=SimpleNamespace,
        NodeOutput=lambda *args, ui=None: SimpleNamespace(args=args, ui=ui),
        **dict.fromkeys(("Image", "Int", "Float", "String", "Boolean", "Combo", "BoundingBox"), sockets),
    )
    modules["comfy_api.latest"].ui = SimpleNamespace(
        PreviewImage=lambda image, cls: SimpleNamespace(values=list(image))
    )
    modules["comfy_execution.graph"].ExecutionBlocker = ExecutionBlocker
    sys.modules.update(modules)
