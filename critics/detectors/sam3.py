"""SAM 3 (Carion et al. 2025) as a differentiable critic of any noun phrase: one instance for each object."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import Sam3Model
from transformers.modeling_outputs import BaseModelOutputWithPooling

from countgen.critics import pretrained
from countgen.critics.base import ABSENT, scale_boxes
from countgen.critics.candidates import Proposals
from countgen.critics.settings import CriticSettings
from countgen.critics.soft_indicator import product_logits

PRESETS = {"sam3": "facebook/sam3@3c879f39826c281e95690f02c7821c4de09afae7"}
"""The published weights ask for an account that has accepted their licence."""
_TEXT_LENGTH = 32


class Sam3Critic(pretrained.PretrainedCritic):
    """Counts the instances of a singular noun; the decoder runs once for each object, the image encoder once for all.

    An instance's probability is that of its query times that of the object's presence in the image, and its logit is
    that of the product: both carry gradient. The presence logit is one for all queries, so it cannot move single
    instances across the threshold. Gradients are partial by design (reference points are detached) but finite.
    """

    family = "sam3"
    model_class = Sam3Model
    model_types = ("sam3",)
    complete = True
    settings = CriticSettings(threshold=0.3, nms_iou=None)  # 0.7 helps where crowded scenes give duplicates
    one_class_per_box = False

    def __init__(self, model: Any, image_processor: Any, tokenizer: Any, *, name: str = "") -> None:
        super().__init__(model, image_processor, tokenizer, name=name)
        self.max_count = model.config.detr_decoder_config.num_queries

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        vision = self.model.get_vision_features(self.inputs(images)["pixel_values"])
        boxes, logits = [], []
        for column, object_name in enumerate(object_names):
            features, mask = self.text(object_name, _TEXT_LENGTH)
            text = BaseModelOutputWithPooling(pooler_output=features.to(self.dtype).expand(len(images), -1, -1))
            output = self.model(vision_embeds=vision, text_embeds=text, attention_mask=mask.expand(len(images), -1))
            boxes.append(scale_boxes(output.pred_boxes, images.shape[-1], images.shape[-2]))
            present = product_logits(output.pred_logits, output.presence_logits)
            # Each object has queries of its own, which are absent for the others.
            absent = torch.full_like(present, ABSENT)
            by_name = [present if other == column else absent for other in range(len(object_names))]
            logits.append(torch.stack(by_name, -1))
        return Proposals(torch.cat(boxes, 1), torch.cat(logits, 1), tuple(range(len(object_names))))


load = partial(pretrained.load, Sam3Critic, PRESETS)
