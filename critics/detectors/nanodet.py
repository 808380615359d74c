"""NanoDet, trained on the photographs of COCO, as a differentiable critic; its weights come with the package."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from countgen.critics.base import Critic, resized, scale_boxes
from countgen.critics.candidates import Proposals
from countgen.critics.networks.nanodet import STRIDES, NanoDet
from countgen.critics.settings import CriticSettings
from countgen.critics.weights import restore

EMBEDDED = Path(__file__).parents[1] / "embedded" / "nanodet" / "model.safetensors"
"""The published weights, converted; the README beside them names their sources and licences."""
SHA256 = "2f2879121233855f550414a65bbfe74962040714566a811907484fb19480ccce"
IMAGE_SIZE = 416
"""Height and width of its training; every image is stretched to the square."""


def load(*, weights: str | Path | None = None, device: torch.device | str = "cpu") -> NanoDetCritic:
    """Read the embedded weights, or a file of ours with the same architecture.

    Raises:
        ValueError: the embedded file is damaged, or the given one is missing or holds another architecture.
    """
    if weights is None:
        _check_embedded()
    return restore(NanoDetCritic, NanoDet, weights=weights or EMBEDDED, device=device)


class NanoDetCritic(Critic):
    """Counts with NanoDet, differentiably.

    As in NanoDet's own post-processing a box counts for every class above the threshold, and duplicates are
    removed class by class.
    """

    family = "nanodet"
    settings = CriticSettings(threshold=0.35, nms_iou=0.4, image_size=IMAGE_SIZE)
    one_class_per_box = False

    def configure(self, **settings: Any) -> None:
        super().configure(**settings)
        if (self.settings.image_size or 0) % STRIDES[-1]:
            raise ValueError(
                f"image_size must be a multiple of {STRIDES[-1]}, got {self.settings.image_size}; {IMAGE_SIZE} counts "
                "best"
            )

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        """See `Critic.propose`; boxes are clipped to the image."""
        columns = tuple(self.column(name) for name in object_names)
        height, width = images.shape[-2:]
        side = self.settings.image_size or IMAGE_SIZE
        logits, boxes = self.model(resized(images, side, side))
        boxes = scale_boxes(boxes.clamp(0, side), width / side, height / side)
        return Proposals(boxes, logits, columns)


def _check_embedded() -> None:
    with EMBEDDED.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise ValueError(f"{EMBEDDED} is damaged: its SHA-256 is {digest}, not {SHA256}; install the package again")
