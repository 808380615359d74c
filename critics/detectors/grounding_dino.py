"""Grounding DINO (Liu et al. 2023) as a differentiable critic of any object name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from countgen.critics import pretrained
from countgen.critics.base import Critic
from countgen.critics.candidates import Proposals
from countgen.critics.vocabulary import singular

PRESETS = {
    "tiny": "IDEA-Research/grounding-dino-tiny@a2bb814dd30d776dcf7e30523b00659f4f141c71",
    "base": "IDEA-Research/grounding-dino-base@12bdfa3120f3e7ec7b434d90674b3396eccf88eb",
}


def load(
    *,
    weights: str = "tiny",
    revision: str | None = None,
    threshold: float = 0.25,
    nms_iou: float | None = None,
    steepness: float = 4.0,
    device: str | torch.device = "cpu",
) -> GroundingDinoCritic:
    """Load a Grounding DINO critic.

    Args:
        weights: one of `PRESETS`, a repository's name, or a folder.
        revision: a branch, tag or commit of the repository.
        threshold: as `threshold` of the stock post-processing.
        nms_iou: none by default, as in the stock post-processing.
        steepness: slope of the soft indicator.
        device: where it runs.

    Raises:
        ValueError: there is no such model, or it is no Grounding DINO.
    """
    model, image_processor, tokenizer = pretrained.read_zero_shot(weights, PRESETS, revision)
    return GroundingDinoCritic(
        model.to(device),
        image_processor,
        tokenizer,
        name=pretrained.recorded_as("grounding_dino", weights, revision),
        threshold=threshold,
        nms_iou=nms_iou,
        steepness=steepness,
    )


class GroundingDinoCritic(Critic):
    """Scores queries against the words of "apple. dog."; an object's logit is that of its best word.

    Image and text are fused in every layer, so the text runs along each time. Gradients are partial by design
    (reference points are detached) but finite.
    """

    family = "grounding-dino"
    one_class_per_box = True

    def __init__(
        self,
        model: Any,
        image_processor: Any,
        tokenizer: Any,
        *,
        name: str,
        threshold: float = 0.25,
        nms_iou: float | None = None,
        steepness: float = 4.0,
    ) -> None:
        family = model.config.model_type
        if family not in ("grounding-dino", "mm-grounding-dino"):
            raise ValueError(f"{name} is a {family!r} model, grounding-dino or mm-grounding-dino is read here")
        self.model: Any = model.eval().requires_grad_(False)
        self.image_processor = image_processor
        self.tokenizer = tokenizer
        self.name = name
        self.threshold = threshold
        self.nms_iou = nms_iou
        self.steepness = steepness
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
        inputs = pretrained.pixels(self.image_processor, images, self.model)
        output = self.model(**inputs, **tokens)
        logits = torch.stack([output.logits[..., words].amax(-1) for words in columns], -1)
        boxes = pretrained.corners(output.pred_boxes, *images.shape[-2:])
        return Proposals(boxes, logits, tuple(range(len(object_names))))


def _inside(offsets: Sequence[tuple[int, int]], span: tuple[int, int]) -> list[int]:
    """Indices of the tokens within a span of characters; special tokens are empty and lie in none."""
    return [i for i, (begin, end) in enumerate(offsets) if span[0] <= begin < end <= span[1]]
