"""OWLv2 and OWL-ViT (Minderer et al. 2022, 2023) as differentiable critics of any object name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from countgen.critics import pretrained
from countgen.critics.candidates import Proposals
from countgen.critics.settings import CriticSettings
from countgen.critics.vocabulary import singular

PRESETS = {
    "owlv2-base": "google/owlv2-base-patch16-ensemble@cfd3195ba4ea9592eec887ded089f4c08eff231d",
    "owlv2-large": "google/owlv2-large-patch14-ensemble",
    "owlvit-base": "google/owlvit-base-patch32@cbc355fb364588351c5d51c7f74465e8e7ec6f72",
    "owlvit-large": "google/owlvit-large-patch14",
}
TEMPLATE = "a photo of a {}"
"""The query of the papers."""


def load(*, weights: str = "owlv2-base", revision: str | None = None, device: str | torch.device = "cpu") -> OwlCritic:
    """Load one of `PRESETS`, a repository or a folder."""
    from transformers import AutoModelForZeroShotObjectDetection

    source = pretrained.Source(weights, PRESETS, revision)
    return OwlCritic.read(source, AutoModelForZeroShotObjectDetection, device)


class OwlCritic(pretrained.TextCritic):
    """Scores every image patch against text queries, which are embedded once per object name.

    The class logits are read; OWLv2's objectness is detached from the image and says nothing of classes.
    """

    family = "owl"
    model_types = ("owlv2", "owlvit")
    settings = CriticSettings(threshold=0.2)

    def __init__(self, model: Any, image_processor: Any, tokenizer: Any, *, name: str) -> None:
        super().__init__(model, image_processor, tokenizer, name=name)
        # OWLv2 pads the image to a square before it resizes it, OWL-ViT stretches it.
        self._pads_to_square = model.config.model_type == "owlv2"
        self._queries: dict[str, Tensor] = {}

    def query(self, object_name: str) -> Tensor:
        """Return the text embedding (D,) of an object name, singular or plural; computed once."""
        word = singular(object_name)
        if word not in self._queries:
            length = self.model.config.text_config.max_position_embeddings
            tokens = self.tokenizer(
                [TEMPLATE.format(word)], padding="max_length", max_length=length, truncation=True, return_tensors="pt"
            ).to(next(self.model.parameters()).device)
            with torch.no_grad():
                text_model = getattr(self.model, self.model.config.model_type)
                features = text_model.get_text_features(tokens["input_ids"], attention_mask=tokens["attention_mask"])
            self._queries[word] = features.pooler_output[0]
        return self._queries[word]

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        height, width = images.shape[-2:]
        inputs = pretrained.pixels(self.image_processor, images, self.model)
        feature_map, _ = self.model.image_embedder(inputs["pixel_values"])
        features = feature_map.flatten(1, 2)
        queries = torch.stack([self.query(name) for name in object_names]).to(features.dtype)
        logits, _ = self.model.class_predictor(features, queries.expand(len(features), -1, -1))
        boxes = self.model.box_predictor(features, feature_map)
        if self._pads_to_square:
            height = width = max(height, width)
        return Proposals(pretrained.corners(boxes, height, width), logits, tuple(range(len(object_names))))
