"""Ultralytics' RT-DETR as a differentiable critic: 300 queries, a square stretch, no duplicate suppression.

Ultralytics is licensed under AGPL-3.0.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

from countgen.critics.base import Critic
from countgen.critics.candidates import Proposals
from countgen.critics.pretrained import corners
from countgen.critics.settings import CriticSettings
from countgen.critics.ultralytics_files import PREDICT_THRESHOLD, TRAINED_SIZE, forget_unusable_anchors, load_critic

_STRIDE = 32


class RTDETRCritic(Critic):
    """Counts the queries of an RT-DETR's last decoder layer.

    Its training matches one query to one object, so nothing is suppressed, and a query counts for every
    class it scores, as in Ultralytics' own choice of the best 300 (query, class) pairs.
    """

    family = "rt-detr"
    settings = CriticSettings(threshold=PREDICT_THRESHOLD, nms_iou=None, image_size=TRAINED_SIZE)
    one_class_per_box = False

    def __init__(self, model: Any, object_names: tuple[str, ...], *, name: str, **settings: Any) -> None:
        """Take a model of Ultralytics, its classes, and fields of `CriticSettings`.

        Raises:
            ValueError: another head.
        """
        self.model: Any = model.eval().requires_grad_(False)
        self.object_names = object_names
        self.name = name
        self.configure(**settings)
        self._head: Any = model.model[-1]
        kind = type(self._head).__name__
        if kind != "RTDETRDecoder":
            raise ValueError(
                f'{name} ends in {kind}, not in the decoder of an RT-DETR; critics.load("yolo", ...) reads YOLOs'
            )
        self.max_count = self._head.num_queries

    def at_scale(self, factor: float) -> RTDETRCritic:
        scaled = copy.copy(self)
        strides = (self.settings.image_size or TRAINED_SIZE) * factor / _STRIDE
        scaled.configure(image_size=max(1, round(strides)) * _STRIDE)
        return scaled

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        columns = tuple(self.column(name) for name in object_names)
        height, width = images.shape[-2:]
        size = (self.settings.image_size or TRAINED_SIZE,) * 2
        if (height, width) != size:
            images = interpolate(images, size, mode="bilinear", antialias=False)
        forget_unusable_anchors(self._head, "shapes", images.dtype)
        # _, (boxes of the decoder layers, their logits, ...): in eval mode the last layer only.
        boxes, logits = self.model(images)[1][:2]
        return Proposals(corners(boxes[-1], height, width), logits[-1], columns)


load = partial(load_critic, RTDETRCritic)
