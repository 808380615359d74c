"""The YOLO critic as the generator stages use it: features for a distance, counts to reject bad pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from countgen.miniature import yolo_options
from critics.detectors import yolo
from critics.suppression import unsuppressed

FEATURE_LAYERS = (2, 4, 6, 10)
MOST_OBJECTS = 300


def read_critic(folder: Path, device: str) -> yolo.YoloCritic:
    """A YOLO critic from its folder, at the threshold it was found to count best at."""
    return yolo.load(**yolo_options(folder), device=device)


def backbone_features(network: Any, images: Tensor) -> list[Tensor]:
    """Four feature maps of the detector's backbone, strides 4 to 32, of images (B, 3, 128, 128) in [0, 1]."""
    found = []
    for number, layer in enumerate(network.model[: FEATURE_LAYERS[-1] + 1]):
        images = layer(images)
        if number in FEATURE_LAYERS:
            found.append(images)
    return found


def feature_distance(network: nn.Module, images: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference of backbone features relative to their size; gradient to `images` only."""
    with torch.no_grad():
        targets = backbone_features(network, wanted)
    found = backbone_features(network, images)
    parts = [(a - b).abs().mean() / b.abs().mean() for a, b in zip(found, targets, strict=True)]
    return torch.stack(parts).float().mean()


@torch.no_grad()
def count_all(critic: yolo.YoloCritic, images: Tensor) -> Tensor:
    """Hard counts of every object the critic knows, int64 (B, 24), with one duplicate suppression for all classes."""
    proposals = critic.propose(images.clamp(0, 1), [])
    scores, labels = proposals.logits.float().max(-1)
    scores, order = scores.topk(min(MOST_OBJECTS, scores.shape[1]), dim=1)
    labels = labels.gather(1, order)
    boxes = proposals.boxes.float().gather(1, order[..., None].expand(-1, -1, 4))
    # Boxes of different classes are moved apart so that they never suppress one another.
    kept = unsuppressed(boxes + 1000.0 * labels[..., None], critic.nms_iou or 1.0)
    counted = (kept & (scores > critic.threshold_logit)).long()
    return torch.zeros(len(images), proposals.logits.shape[-1], dtype=torch.long, device=images.device).scatter_add_(
        1, labels, counted
    )
