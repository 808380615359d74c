"""Ultralytics YOLO detectors (v8, v9, v10, 11, 12, 26) as a differentiable critic.

Ultralytics is licensed under AGPL-3.0.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from critics.base import Critic, Proposals

PAD_VALUE = 114 / 255
"""Grey of Ultralytics' letterbox."""


def _import_ultralytics() -> None:
    """Import Ultralytics without its look-ups, downloads and usage events, unless the user set them."""
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    if "YOLO_CONFIG_DIR" not in os.environ:
        folder = Path(tempfile.gettempdir()) / f"countgen-ultralytics-{os.getuid() if hasattr(os, 'getuid') else 0}"
        folder.mkdir(exist_ok=True)
        os.environ["YOLO_CONFIG_DIR"] = str(folder)
    import ultralytics  # noqa: F401


def build(config: Path) -> tuple[nn.Module, dict[int, str]]:
    """The architecture of an Ultralytics yaml, randomly initialised, with its class names."""
    _import_ultralytics()
    import yaml
    from ultralytics.nn.tasks import DetectionModel

    architecture = yaml.safe_load(config.read_text())
    names = architecture["names"]
    names = names if isinstance(names, dict) else dict(enumerate(names))
    return DetectionModel(architecture, nc=len(names), verbose=False), names


def load(
    *,
    weights: str | Path,
    config: str | Path | None = None,
    image_size: int | None = None,
    threshold: float = 0.25,
    nms_iou: float = 0.7,
    steepness: float = 4.0,
    device: str | torch.device = "cpu",
) -> YoloCritic:
    """Load a YOLO critic.

    Args:
        weights: an Ultralytics `.pt`, which is a pickle: load only files you trust; or `.safetensors`,
            which is not.
        config: for safetensors, the architecture's yaml with a `names` list.
        image_size: longer side the picture is letterboxed to; the training size by default.
        threshold, nms_iou: as `conf` and `iou` of Ultralytics' `predict`, whose defaults these are.
        steepness: slope of the soft indicator.
        device: where it runs.

    Raises:
        FileNotFoundError: the weights or the config do not exist; nothing is downloaded.
        ValueError: safetensors without a config.
    """
    path = Path(weights)
    for file in (path, Path(config or path)):
        if not file.is_file():
            raise FileNotFoundError(f"no such file: {file}; give the path of a YOLO checkpoint, nothing is downloaded")
    names: Mapping[int, str]
    if path.suffix == ".safetensors":
        if config is None:
            raise ValueError(f"{path.name} holds weights only: give config= the architecture's yaml")
        model, names = build(Path(config))
        model.load_state_dict(load_file(path))
        trained_size = 640
    else:
        _import_ultralytics()
        from ultralytics import YOLO

        checkpoint = YOLO(str(path), task="detect")
        model, names = checkpoint.model, checkpoint.names
        trained_size = int(checkpoint.overrides.get("imgsz", 640))
    return YoloCritic(
        model.float().to(device),
        tuple(names[index] for index in sorted(names)),
        name=f"yolo:{path.stem if path.stem != 'model' else path.parent.name}",
        image_size=image_size or trained_size,
        threshold=threshold,
        nms_iou=nms_iou,
        steepness=steepness,
    )


class YoloCritic(Critic):
    """A YOLO's one-to-many head, whose proposals carry gradient also where NMS follows.

    End-to-end models (v10, 26) have a second, one-to-one head; the one-to-many head is read here, with
    duplicate suppression, because it offers several proposals per object to pull up.
    """

    one_class_per_box = True

    def __init__(
        self,
        model: nn.Module,
        object_names: tuple[str, ...],
        *,
        name: str,
        image_size: int,
        threshold: float,
        nms_iou: float,
        steepness: float,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.object_names = object_names
        self.name = name
        self.image_size = image_size
        self.threshold = threshold
        self.nms_iou = nms_iou
        self.steepness = steepness
        self._head = model.model[-1]  # type: ignore[index]
        # End-to-end decoding keeps the best 300 and drops the logits.
        self._head.end2end = False

    def at_scale(self, factor: float) -> YoloCritic:
        scaled = copy.copy(self)
        scaled.image_size = round(self.image_size * factor)
        return scaled

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        columns = tuple(self.column(name) for name in object_names)
        # Anchors cached under inference_mode would make the next backward fail.
        if self._head.anchors.is_inference():
            self._head.shape = None
        squares, scale, left, top = letterbox(images, self.image_size, int(self._head.stride.max()))
        decoded, raw = self.model(squares)
        logits = raw.get("one2many", raw)["scores"]
        x, y, width, height = decoded[:, :4].unbind(1)
        corners = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1)
        boxes = (corners - corners.new_tensor([left, top, left, top])) / scale
        return Proposals(boxes, logits.transpose(1, 2), columns)


def letterbox(images: Tensor, size: int, stride: int) -> tuple[Tensor, float, int, int]:
    """Resize the longer side to `size` and pad to a multiple of the stride, as `predict` does.

    Args:
        images: (B, 3, H, W) in [0, 1].
        size: longer side in pixels.
        stride: the detector's largest stride.

    Returns:
        The padded batch with gradient, the scale, and the padding at the left and at the top in pixels.
    """
    height, width = images.shape[-2:]
    size = -(-size // stride) * stride
    scale = min(size / height, size / width)
    new_height, new_width = max(round(height * scale), 1), max(round(width * scale), 1)
    if (new_height, new_width) != (height, width):
        images = interpolate(images, (new_height, new_width), mode="bilinear", antialias=False)
    # Ultralytics rounds the two halves of an odd margin this way.
    x_margin, y_margin = (size - new_width) % stride / 2, (size - new_height) % stride / 2
    left, right = round(x_margin - 0.1), round(x_margin + 0.1)
    top, bottom = round(y_margin - 0.1), round(y_margin + 0.1)
    return pad(images, (left, right, top, bottom), value=PAD_VALUE), scale, left, top
