"""Grounding DINO (Liu et al. 2023) as a differentiable critic of any object name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForZeroShotObjectDetection

from countgen.critics import pretrained
from countgen.critics.base import corners
from countgen.critics.candidates import Proposals
from countgen.critics.settings import CriticSettings
from countgen.critics.vocabulary import singular

PRESETS = {
    "tiny": "IDEA-Research/grounding-dino-tiny@a2bb814dd30d776dcf7e30523b00659f4f141c71",
    "base": "IDEA-Research/grounding-dino-base@12bdfa3120f3e7ec7b434d90674b3396eccf88eb",
}


class GroundingDinoCritic(pretrained.PretrainedCritic):
    """Scores queries against the words of "apple. dog."; an object's logit is that of its best word.

    Image and text are fused in every layer, so the text runs along each time. Gradients are partial by design
    (reference points are detached) but finite.
    """

    family = "grounding-dino"
    model_class = AutoModelForZeroShotObjectDetection
    model_types = ("grounding-dino", "mm-grounding-dino")
    settings = CriticSettings(threshold=0.25, nms_iou=None)

    def __init__(self, model: Any, image_processor: Any, tokenizer: Any, *, name: str = "") -> None:
        super().__init__(model, image_processor, tokenizer, name=name)
        self.max_count = model.config.num_queries

    def prompt(self, object_names: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
        """Return the text for several objects, and the span of characters of each."""
        text, spans = "", []
        for name in object_names:
            word = singular(name)
            spans.append((len(text), len(text) + len(word)))
            text += f"{word}. "
        return text.rstrip(), spans

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        text, spans = self.prompt(object_names)
        encoding = self.tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
        offsets = encoding.pop("offset_mapping")[0].tolist()
        columns = [_inside(offsets, span) for span in spans]
        for name, words in zip(object_names, columns, strict=True):
            if not words:
                raise ValueError(f"the tokenizer of {self.name} knows nothing of {name!r}; name the object in words")
        tokens = {key: value.to(images.device).expand(len(images), -1) for key, value in encoding.items()}
        output = self.model(**self.inputs(images), **tokens)
        logits = torch.stack([output.logits[..., words].amax(-1) for words in columns], -1)
        boxes = corners(output.pred_boxes, *images.shape[-2:])
        return Proposals(boxes, logits, tuple(range(len(object_names))))


load = partial(pretrained.load, GroundingDinoCritic, PRESETS)


def _inside(offsets: Sequence[tuple[int, int]], span: tuple[int, int]) -> list[int]:
    """Return the indices of the tokens within a span of characters; special tokens, which are empty, are left out."""
    return [i for i, (begin, end) in enumerate(offsets) if span[0] <= begin < end <= span[1]]
