"""The YOLO critic in the stages of the generators: a feature distance, and a network that counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from countgen.critics.detectors import yolo
from countgen.miniature import yolo_options

FEATURE_LAYERS = (2, 4, 6, 10)


def read_critic(folder: Path, device: str) -> yolo.YoloCritic:
    """Load a YOLO critic from its folder, with the threshold in its metadata."""
    return yolo.load(**yolo_options(folder), device=device)


def backbone_features(network: Any, images: Tensor) -> list[Tensor]:
    """Return four feature maps of the detector's backbone, strides 4 to 32, of images (B, 3, 128, 128) in [0, 1]."""
    found = []
    for number, layer in enumerate(network.model[: FEATURE_LAYERS[-1] + 1]):
        images = layer(images)
        if number in FEATURE_LAYERS:
            found.append(images)
    return found


def feature_distance(network: nn.Module, images: Tensor, expected: Tensor) -> Tensor:
    """Return the mean absolute difference of backbone features relative to their mean, with gradient to `images`."""
    with torch.no_grad():
        targets = backbone_features(network, expected)
    found = backbone_features(network, images)
    return relative_distance(found, targets)


def relative_distance(found: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Return the mean absolute difference of feature maps relative to the targets' mean, averaged over the maps."""
    parts = [(a.float() - b.float()).abs().mean() / b.float().abs().mean() for a, b in zip(found, targets, strict=True)]
    return torch.stack(parts).mean()
