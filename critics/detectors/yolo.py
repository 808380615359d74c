"""Ultralytics YOLO detectors (v8, v9, v10, 11, 12, 26) as a differentiable critic.

Ultralytics is licensed under AGPL-3.0.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from countgen.critics.base import resized
from countgen.critics.candidates import Proposals
from countgen.critics.ultralytics_files import UltralyticsCritic, load_critic

PAD_VALUE = 114 / 255
"""Grey of Ultralytics' letterbox."""


class YoloCritic(UltralyticsCritic):
    """A YOLO's one-to-many head, whose proposals carry gradient also where NMS follows.

    End-to-end models (v10, 26) have a second, one-to-one head; the one-to-many head is read here, with
    duplicate suppression, because it offers several proposals per object to pull up.
    """

    family = "yolo"
    heads = ("Detect", "v10Detect")

    def __init__(self, model: Any, object_names: Sequence[str], *, name: str = "", **settings: Any) -> None:
        super().__init__(model, object_names, name=name, **settings)
        if self._head.cv2 is None:
            raise ValueError(f"{self.name} was fused: its one-to-many head is gone; give an unfused checkpoint")
        # End-to-end decoding keeps the best 300 and drops the logits.
        self._head.end2end = False
        self._stride = int(self._head.stride.max())
        self._anchors: dict[tuple[Any, ...], tuple[Any, Tensor, Tensor]] = {}

    def at_scale(self, factor: float) -> YoloCritic:
        scaled = copy.copy(self)
        scaled.configure(image_size=round(self.image_size * factor))
        return scaled

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        columns = tuple(self.column(name) for name in object_names)
        squares, scale, left, top = letterbox(images, self.image_size, self._stride)
        # Each size keeps its anchors: making them copies from the CPU, which CUDA graphs cannot capture, and a
        # captured graph goes on reading them.
        key = (squares.shape, squares.dtype, squares.device)
        if key in self._anchors:
            self._head.shape, self._head.anchors, self._head.strides = self._anchors[key]
        self.forget_unusable_anchors("shape", images.dtype)
        decoded, raw = self._run(squares)
        self._anchors[key] = self._head.shape, self._head.anchors, self._head.strides
        logits = raw.get("one2many", raw)["scores"]
        x, y, width, height = decoded[:, :4].unbind(1)
        x, y = x - left, y - top
        boxes = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1) / scale
        return Proposals(boxes, logits.transpose(1, 2), columns)

    def _run(self, squares: Tensor) -> tuple[Tensor, dict[str, Any]]:
        return self.model(squares)


load = partial(load_critic, YoloCritic)


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
    # Ultralytics rounds the two halves of an odd margin this way.
    x_margin, y_margin = (size - new_width) % stride / 2, (size - new_height) % stride / 2
    left, right = round(x_margin - 0.1), round(x_margin + 0.1)
    top, bottom = round(y_margin - 0.1), round(y_margin + 0.1)
    return pad(resized(images, new_height, new_width), (left, right, top, bottom), value=PAD_VALUE), scale, left, top
