"""Ultralytics' RT-DETR as a differentiable critic: 300 queries, a square stretch, no duplicate suppression.

Ultralytics is licensed under AGPL-3.0.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from countgen.critics.base import Critic
from countgen.critics.candidates import Proposals
from countgen.critics.pretrained import corners
from countgen.critics.ultralytics_files import PREDICT_THRESHOLD, forget_unusable_anchors, read

_STRIDE = 32


def load(
    *,
    weights: str | Path,
    config: str | Path | None = None,
    revision: str | None = None,
    trust_checkpoint: bool = False,
    image_size: int | None = None,
    threshold: float | None = None,
    steepness: float = 4.0,
    device: str | torch.device = "cpu",
) -> RTDETRCritic:
    """Load an RT-DETR critic.

    Args:
        weights: an Ultralytics `.pt`, of which the description and the tensors are read and no code runs, or
            `.safetensors`. A path, OWNER/REPOSITORY/FILE on the hub.
        config: for safetensors, the architecture's yaml with a `names` list.
        revision: a branch, tag or commit of the repository.
        trust_checkpoint: let Ultralytics load the `.pt`, a pickle: whatever code its author put into it runs. For
            checkpoints that cannot be read as data, a fused one among them.
        image_size: side of the square the image is stretched to; the training size by default.
        threshold: as `conf` of Ultralytics' `predict`; the one noted in the weights' metadata by default, else
            `predict`'s.
        steepness: slope of the soft indicator.
        device: where it runs.

    Raises:
        FileNotFoundError: the weights or the config do not exist.
        ValueError: safetensors without a config, or a model that is not an RT-DETR.
    """
    checkpoint = read("ultralytics_rtdetr", weights, config, revision, trust_checkpoint=trust_checkpoint)
    return RTDETRCritic(
        checkpoint.model.to(device),
        checkpoint.object_names,
        name=checkpoint.name,
        image_size=checkpoint.image_size if image_size is None else image_size,
        threshold=checkpoint.threshold if threshold is None else threshold,
        steepness=steepness,
    )


class RTDETRCritic(Critic):
    """Counts the queries of an RT-DETR's last decoder layer.

    Its training matches one query to one object, so nothing is suppressed, and a query counts for every
    class it scores, as in Ultralytics' own choice of the best 300 (query, class) pairs.
    """

    family = "rt-detr"
    nms_iou = None
    one_class_per_box = False

    def __init__(
        self,
        model: Any,
        object_names: tuple[str, ...],
        *,
        name: str,
        image_size: int,
        threshold: float = PREDICT_THRESHOLD,
        steepness: float = 4.0,
    ) -> None:
        self.model: Any = model.eval().requires_grad_(False)
        self.object_names = object_names
        self.name = name
        self.image_size = image_size
        self.threshold = threshold
        self.steepness = steepness
        self._head: Any = model.model[-1]
        kind = type(self._head).__name__
        if kind != "RTDETRDecoder":
            raise ValueError(f'{name} ends in {kind}, which is no RT-DETR; critics.load("yolo", ...) reads YOLOs')
        self.max_count = self._head.num_queries

    def at_scale(self, factor: float) -> RTDETRCritic:
        scaled = copy.copy(self)
        scaled.image_size = max(1, round(self.image_size * factor / _STRIDE)) * _STRIDE
        return scaled

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        columns = tuple(self.column(name) for name in object_names)
        height, width = images.shape[-2:]
        size = (self.image_size, self.image_size)
        if (height, width) != size:
            images = interpolate(images, size, mode="bilinear", antialias=False)
        forget_unusable_anchors(self._head, "shapes", images.dtype)
        # _, (boxes of the decoder layers, their logits, ...): in eval mode the last layer only.
        boxes, logits = self.model(images)[1][:2]
        return Proposals(corners(boxes[-1], height, width), logits[-1], columns)
