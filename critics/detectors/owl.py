"""OWLv2 and OWL-ViT (Minderer et al. 2022, 2023) as differentiable critics of any object name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import AutoModelForZeroShotObjectDetection

from countgen.critics import pretrained
from countgen.critics.base import corners
from countgen.critics.candidates import Proposals
from countgen.critics.settings import CriticSettings

PRESETS = {
    "owlv2-base": "google/owlv2-base-patch16-ensemble@cfd3195ba4ea9592eec887ded089f4c08eff231d",
    "owlv2-large": "google/owlv2-large-patch14-ensemble",
    "owlvit-base": "google/owlvit-base-patch32@cbc355fb364588351c5d51c7f74465e8e7ec6f72",
    "owlvit-large": "google/owlvit-large-patch14",
}
TEMPLATE = "a photo of a {}"
"""The query of the papers."""


class OwlCritic(pretrained.PretrainedCritic):
    """Scores every image patch against text queries, which are embedded once per object name.

    The class logits are read; OWLv2's objectness is detached from the image and says nothing of classes.
    """

    family = "owl"
    model_class = AutoModelForZeroShotObjectDetection
    model_types = ("owlv2", "owlvit")
    settings = CriticSettings(threshold=0.2)

    def query(self, object_name: str) -> Tensor:
        """Return the text embedding (D,) of an object name, singular or plural; computed once."""
        features, _ = self.text(object_name, self.model.config.text_config.max_position_embeddings, TEMPLATE)
        return features[0]

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        height, width = images.shape[-2:]
        feature_map, _ = self.model.image_embedder(self.inputs(images)["pixel_values"])
        features = feature_map.flatten(1, 2)
        queries = torch.stack([self.query(name) for name in object_names]).to(features.dtype)
        logits, _ = self.model.class_predictor(features, queries.expand(len(features), -1, -1))
        boxes = self.model.box_predictor(features, feature_map)
        if self.model.config.model_type == "owlv2":  # it pads the image to a square before it resizes it
            height = width = max(height, width)
        return Proposals(corners(boxes, height, width), logits, tuple(range(len(object_names))))


load = partial(pretrained.load, OwlCritic, PRESETS)
