"""A class-conditional density counter: one map per object whose sum is its count."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from critics.detectors.centernet import STRIDE, HourGlass

WIDTHS = (16, 40, 56, 64)
__all__ = ["STRIDE", "DensityCounter", "build"]


def build(num_classes: int) -> DensityCounter:
    """The network with fresh weights, 0.5 M parameters."""
    return DensityCounter(num_classes)


class DensityCounter(nn.Module):
    """A regression counter: it says how much of which object is where, not which boxes there are."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = HourGlass(WIDTHS)
        self.head = nn.Conv2d(WIDTHS[1], num_classes, 1)
        nn.init.normal_(self.head.weight, std=0.01)
        # softplus(-5) is nearly nothing: an empty picture at the start.
        nn.init.constant_(self.head.bias, -5.0)

    def forward(self, images: Tensor) -> Tensor:
        """Density maps (B, C, H/4, W/4), at least 0, of RGB (B, 3, H, W) in [0, 1], sides divisible by 16.

        The sum of a map over the picture is the count of that object.
        """
        return F.softplus(self.head(self.features((images - 0.5) * 4)))
