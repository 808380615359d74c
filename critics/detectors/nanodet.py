"""NanoDet, trained on the photographs of COCO, as a differentiable critic; its weights come with the package."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from countgen.critics.base import Critic, scale_boxes
from countgen.critics.candidates import Proposals
from countgen.critics.networks.nanodet import STRIDES, NanoDet
from countgen.critics.weights import restore

EMBEDDED = Path(__file__).parents[1] / "embedded" / "nanodet" / "model.safetensors"
"""The published weights, converted; the README beside them names their sources and licences."""
SHA256 = "2f2879121233855f550414a65bbfe74962040714566a811907484fb19480ccce"
IMAGE_SIZE = 416
"""Height and width of its training; every image is stretched to the square."""


def load(
    *,
    weights: str | Path | None = None,
    threshold: float | None = None,
    steepness: float = 4.0,
    nms_iou: float = 0.4,
    image_size: int = IMAGE_SIZE,
    device: torch.device | str = "cpu",
) -> NanoDetCritic:
    """Build the critic.

    Args:
        weights: a file written by `countgen.critics.networks.nanodet_conversion`; the embedded one by default.
        threshold: probability above which a box counts; the one that the file notes by default.
        steepness: slope of the soft indicator.
        nms_iou: overlap above which two boxes are one object.
        image_size: height and width that the network sees, a multiple of 32; it counts best at that of its training.
        device: where it runs.

    Raises:
        ValueError: the embedded file is damaged, there is no such file, it holds another architecture, or the image
            size is no multiple of 32.
    """
    if image_size < STRIDES[-1] or image_size % STRIDES[-1]:
        raise ValueError(f"image_size must be a multiple of {STRIDES[-1]}, got {image_size}; {IMAGE_SIZE} counts best")
    path = Path(weights) if weights is not None else EMBEDDED
    if weights is None:
        _check_embedded()
    critic = restore("nanodet", path, NanoDet, NanoDetCritic, device)
    critic.threshold = critic.threshold if threshold is None else threshold
    critic.steepness = steepness
    critic.nms_iou = nms_iou
    critic.image_size = image_size
    return critic


class NanoDetCritic(Critic):
    """Counts with NanoDet, differentiably.

    As in NanoDet's own post-processing a box counts for every class above the threshold, and duplicates are
    removed class by class.
    """

    family = "nanodet"
    threshold = 0.35
    nms_iou = 0.4
    one_class_per_box = False

    def __init__(self, network: NanoDet, object_names: Sequence[str]) -> None:
        self.network = network.eval().requires_grad_(False)
        self.object_names = tuple(object_names)
        self.name = "nanodet"
        self.image_size = IMAGE_SIZE

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        """See `Critic.propose`; boxes are clipped to the image."""
        columns = tuple(self.column(name) for name in object_names)
        height, width = images.shape[-2:]
        side = self.image_size
        if (height, width) != (side, side):
            images = interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
        logits, boxes = self.network(images)
        boxes = scale_boxes(boxes.clamp(0, side), width / side, height / side)
        return Proposals(boxes, logits, columns)


def _check_embedded() -> None:
    with EMBEDDED.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise ValueError(f"{EMBEDDED} is damaged: its SHA-256 is {found}, not {SHA256}; install the package again")
