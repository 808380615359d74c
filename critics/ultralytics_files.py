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

from critics.weights import recorded_as

TRAINED_SIZE = 640
"""Image size of nearly every Ultralytics checkpoint, where the file does not say."""

PREDICT_THRESHOLD = 0.25
"""Of Ultralytics' `predict`."""

PRESETS = {
    f"{model}{size}": f"Ultralytics/{repository}/{model}{size}.pt"
    for model, repository in (("yolov8", "YOLOv8"), ("yolo11", "YOLO11"), ("yolo26", "YOLO26"))
    for size in "nsmlx"
}
"""Short names of files in the publisher's repositories on the hub; each is a pickle."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file says of a detector.

    Attributes:
        model: on the CPU, in float32.
        object_names: its classes, in their order.
        name: what records call a critic of this file.
        image_size: that it was trained at.
        threshold: that was measured to count best, where the file's metadata notes one, else `predict`'s.
    """

    model: nn.Module
    object_names: tuple[str, ...]
    name: str
    image_size: int = TRAINED_SIZE
    threshold: float = PREDICT_THRESHOLD


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


def find(weights: str | Path, revision: str | None = None) -> Path:
    """A file: one that is there, or one of a repository on the hub, downloaded once.

    Args:
        weights: a path, one of `PRESETS`, or OWNER/REPOSITORY/FILE.
        revision: a branch, tag or commit of the repository.

    Raises:
        FileNotFoundError: it is neither.
        ValueError: the hub does not give it, or cannot be reached.
    """
    if Path(weights).is_file():
        return Path(weights)
    *repository, file = PRESETS.get(str(weights), str(weights)).split("/")
    if len(repository) != 2 or not all(repository) or repository[0] in (".", ".."):
        raise FileNotFoundError(
            f"no such file: {weights}; give the path of an Ultralytics checkpoint, OWNER/REPOSITORY/FILE on the hub or "
            f"one of {', '.join(PRESETS)}; nothing else is downloaded"
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download("/".join(repository), file, revision=revision))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise ValueError(
            f"no file {weights} here, and {file} of {'/'.join(repository)} cannot be had from the hub; download it and "
            f"give its path. The cause: {' '.join(str(error).split())}"
        ) from error


def read(kind: str, weights: str | Path, config: str | Path | None, revision: str | None = None) -> Checkpoint:
    """Read a detector.

    Args:
        kind: the critic's file in `critics/detectors`.
        weights: as of `find`: a `.pt`, which is a pickle: read only files you trust; or `.safetensors`, which is not.
        config: for safetensors, the architecture's yaml with a `names` list.
        revision: of the repository on the hub.

    Raises:
        FileNotFoundError: the weights or the config do not exist.
        ValueError: safetensors without a config, weights of another architecture, or a repository that cannot be read.
    """
    path = find(weights, revision)
    if not Path(config or path).is_file():
        raise FileNotFoundError(f"no such file: {config}; give the path of the architecture's yaml")
    name = recorded_as(kind, path)
    if path.suffix != ".safetensors":
        import_ultralytics()
        from ultralytics import YOLO

        stock = YOLO(str(path), task="detect")
        size = int(stock.overrides.get("imgsz", TRAINED_SIZE))
        return Checkpoint(stock.model.float(), _ordered(stock.names), name, size)
    if config is None:
        raise ValueError(f"{path.name} holds weights only: give config= the architecture's yaml")
    model, names = build(Path(config))
    try:
        model.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold the weights of {config}: {error}") from error
    with safe_open(path, "pt") as file:
        threshold = float((file.metadata() or {}).get("threshold", PREDICT_THRESHOLD))
    return Checkpoint(model, names, name, threshold=threshold)


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
