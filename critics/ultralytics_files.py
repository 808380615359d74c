"""Read Ultralytics detectors from a checkpoint, or from a yaml and safetensors.

Ultralytics is licensed under AGPL-3.0.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

TRAINED_SIZE = 640
"""Image size of nearly every Ultralytics checkpoint, where the file does not say."""


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


def build(config: Path) -> tuple[nn.Module, dict[int, str]]:
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
    names = names if isinstance(names, dict) else dict(enumerate(names))
    family = {
        "RTDETRDecoder": tasks.RTDETRDetectionModel,
        "WorldDetect": tasks.WorldModel,
        "YOLOEDetect": tasks.YOLOEModel,
    }.get(architecture["head"][-1][2], tasks.DetectionModel)
    return family(architecture, nc=len(names), verbose=False), names


def read(weights: str | Path, config: str | Path | None) -> tuple[nn.Module, Mapping[int, str], int]:
    """A detector, its class names and the image size it was trained at.

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

        checkpoint = YOLO(str(path), task="detect")
        return checkpoint.model, checkpoint.names, int(checkpoint.overrides.get("imgsz", TRAINED_SIZE))
    if config is None:
        raise ValueError(f"{path.name} holds weights only: give config= the architecture's yaml")
    model, names = build(Path(config))
    try:
        model.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold the weights of {config}: {error}") from error
    return model, names, TRAINED_SIZE


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
