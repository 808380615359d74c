"""DETR, RT-DETR, D-FINE and their relatives in transformers as differentiable critics."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForObjectDetection

from countgen.critics import pretrained
from countgen.critics.base import corners
from countgen.critics.candidates import Proposals
from countgen.critics.settings import CriticSettings
from countgen.critics.soft_indicator import softmax_logits
from countgen.critics.vocabulary import UNUSED_LABELS

PRESETS = {
    "rtdetr-r18": "PekingU/rtdetr_r18vd@ac77a11ff0170a41b771c03264987f8ce2b0d753",
    "rtdetr-r50": "PekingU/rtdetr_r50vd@df939e661d8c52e80608d1ec566561aabd25a4e7",
    "rtdetr-v2-r18": "PekingU/rtdetr_v2_r18vd@5650961749fa93567c0d46fc7f43ea4f9e914107",
    "detr-resnet-50": "facebook/detr-resnet-50@no_timm",  # its main branch needs timm
    "dfine-small": "ustc-community/dfine-small-coco@f79e65b5fbb33ceb9d3ebba042955d7410c608f8",
    "dfine-large": "ustc-community/dfine-large-coco@aa8f8211545e4cff5adf52ea512f9ac74a9824ec",
}
_SOFTMAX_FAMILIES = ("detr", "table-transformer", "yolos")
_FAMILIES = {"rt_detr": "rt-detr", "rt_detr_v2": "rt-detr", "d_fine": "rt-detr", "yolos": "yolos"}


class DetrCritic(pretrained.PretrainedCritic):
    """Counts object queries; their one-to-one training leaves no duplicates to suppress.

    DETR itself scores with a softmax over the classes and "no object"; a class's logit is then
    log p - log(1 - p), and a query counts for its best class. The later ones score every class for itself.
    Gradients of RT-DETR and D-FINE are partial by design (reference points are detached) but finite.
    """

    model_class = AutoModelForObjectDetection
    reads_text = False
    settings = CriticSettings(nms_iou=None)

    def __init__(self, model: Any, image_processor: Any, *, name: str = "") -> None:
        super().__init__(model, image_processor, name=name)
        self.family = _FAMILIES.get(model.config.model_type, "detr")
        self.one_class_per_box = model.config.model_type in _SOFTMAX_FAMILIES
        self.max_count = getattr(model.config, "num_queries", self.max_count)
        labels = model.config.id2label
        # COCO's published label lists have holes.
        known = [index for index in sorted(labels) if labels[index].lower() not in UNUSED_LABELS]
        self.object_names = tuple(labels[index] for index in known)
        # On the device: a list as an index is copied there in every evaluation, which CUDA graphs cannot capture.
        self._columns = torch.tensor(known, device=model.device)

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        columns = tuple(self.column(name) for name in object_names)
        output = self.model(**self.inputs(images))
        logits = softmax_logits(output.logits) if self.one_class_per_box else output.logits
        boxes = corners(output.pred_boxes, *images.shape[-2:])
        return Proposals(boxes, logits.index_select(-1, self._columns), columns)


load = partial(pretrained.load, DetrCritic, PRESETS)
