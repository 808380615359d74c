"""Read Ultralytics detectors from a checkpoint, or from a yaml and safetensors.

Ultralytics is licensed under AGPL-3.0.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

TRAINED_SIZE = 640
"""Image size of nearly every Ultralytics checkpoint, where the file does not say."""

PREDICT_THRESHOLD = 0.25
"""Of Ultralytics' `predict`."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file says of a detector.

    Attributes:
        model: on the CPU, in float32.
        object_names: its classes, in their order.
        image_size: that it was trained at.
        threshold: that was measured to count best, where the file's metadata notes one.
    """

    model: nn.Module
    object_names: tuple[str, ...]
    image_size: int = TRAINED_SIZE
    threshold: float | None = None


def import_ultralytics() -> None:
    """Import Ultralytics without its look-ups, downloads and usage events, unless the user set them."""
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    if "YOLO_CONFIG_DIR" not in os.environ:
        folder = Path(tempfile.gettempdir()) / f"countgen-ultralytics-{os.getuid() if hasattr(os, 'getuid') else 0}"
        folder.mkdir(mode=0o700, exist_ok=True)
        os.environ["YOLO_CONFIG_DIR"] = str(folder)
    import ultralytics  # noqa: F401


def build(config: Path) -> tuple[nn.Module, tuple[str, ...]]:
    """The architecture of an Ultralytics yaml, randomly initialised, with its class names.

    Raises:
        ValueError: the yaml has no `names`.
    """
    import_ultralytics()
    import yaml
    from ultralytics.nn import tasks

    architecture: dict[str, Any] = yaml.safe_load(config.read_text())
    names = architecture.get("names")
    if not names:
        raise ValueError(f"{config} does not name its classes; add a list `names` to it")
    names = _ordered(names) if isinstance(names, dict) else tuple(names)
    family = {
        "RTDETRDecoder": tasks.RTDETRDetectionModel,
        "WorldDetect": tasks.WorldModel,
        "YOLOEDetect": tasks.YOLOEModel,
    }.get(architecture["head"][-1][2], tasks.DetectionModel)
    return family(architecture, nc=len(names), verbose=False), names


def _ordered(names: dict[int, str]) -> tuple[str, ...]:
    return tuple(names[index] for index in sorted(names))


def read(weights: str | Path, config: str | Path | None) -> Checkpoint:
    """Read a detector.

    Args:
        weights: a `.pt`, which is a pickle: read only files you trust; or `.safetensors`, which is not.
        config: for safetensors, the architecture's yaml with a `names` list.

    Raises:
        FileNotFoundError: the weights or the config do not exist; nothing is downloaded.
        ValueError: safetensors without a config, or weights of another architecture.
    """
    path = Path(weights)
    for file in (path, Path(config or path)):
        if not file.is_file():
            raise FileNotFoundError(f"no such file: {file}; give the path of a YOLO checkpoint, nothing is downloaded")
    if path.suffix != ".safetensors":
        import_ultralytics()
        from ultralytics import YOLO

        stock = YOLO(str(path), task="detect")
        size = int(stock.overrides.get("imgsz", TRAINED_SIZE))
        return Checkpoint(stock.model.float(), _ordered(stock.names), size)
    if config is None:
        raise ValueError(f"{path.name} holds weights only: give config= the architecture's yaml")
    model, names = build(Path(config))
    try:
        model.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold the weights of {config}: {error}") from error
    with safe_open(path, "pt") as file:
        threshold = (file.metadata() or {}).get("threshold")
    return Checkpoint(model, names, threshold=float(threshold) if threshold else None)


def short_name(weights: str | Path) -> str:
    """What records call a weights file: its stem, or its folder's name where the stem is "model"."""
    path = Path(weights)
    return path.stem if path.stem != "model" else path.parent.name


def forget_unusable_anchors(head: nn.Module, key: str, dtype: torch.dtype) -> None:
    """Make a head compute its anchors again, where those it caches per shape would spoil the next pass.

    Anchors made under `inference_mode` would make the next backward fail; those made under autocast are
    coarse.

    Args:
        head: a detection head.
        key: the attribute that says which shapes the cache is for.
        dtype: of the images.
    """
    anchors = getattr(head, "anchors", None)
    if anchors is not None and (anchors.is_inference() or anchors.dtype != dtype):
        setattr(head, key, None)
