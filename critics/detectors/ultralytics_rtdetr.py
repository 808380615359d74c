"""Ultralytics' RT-DETR as a differentiable critic: 300 queries, a square stretch, no duplicate suppression.

Ultralytics is licensed under AGPL-3.0.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from countgen.critics.base import corners, resized
from countgen.critics.candidates import Proposals
from countgen.critics.ultralytics_files import UltralyticsCritic, load_critic

_STRIDE = 32


class RTDETRCritic(UltralyticsCritic):
    """Counts the queries of an RT-DETR's last decoder layer.

    Its training matches one query to one object, so nothing is suppressed, and a query counts for every
    class it scores, as in Ultralytics' own choice of the best 300 (query, class) pairs.
    """

    family = "rt-detr"
    heads = ("RTDETRDecoder",)
    settings = replace(UltralyticsCritic.settings, nms_iou=None)
    one_class_per_box = False

    def __init__(self, model: Any, object_names: Sequence[str], *, name: str = "", **settings: Any) -> None:
        super().__init__(model, object_names, name=name, **settings)
        self.max_count = self._head.num_queries

    def at_scale(self, factor: float) -> RTDETRCritic:
        scaled = copy.copy(self)
        scaled.configure(image_size=max(1, round(self.image_size * factor / _STRIDE)) * _STRIDE)
        return scaled

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        columns = tuple(self.column(name) for name in object_names)
        height, width = images.shape[-2:]
        self.forget_unusable_anchors("shapes", images.dtype)
        # _, (boxes of the decoder layers, their logits, ...): in eval mode the last layer only.
        boxes, logits = self.model(resized(images, self.image_size, self.image_size))[1][:2]
        return Proposals(corners(boxes[-1], height, width), logits[-1], columns)


load = partial(load_critic, RTDETRCritic)
