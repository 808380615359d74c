"""The YOLO critic as the generator stages use it: features for a distance, a network to count with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from countgen.miniature import yolo_options
from critics.detectors import yolo

FEATURE_LAYERS = (2, 4, 6, 10)


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
