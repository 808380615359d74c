"""A class-conditional density counter: one map per object whose sum is its count."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from countgen.critics.networks.hourglass import HourGlass

WIDTHS = (16, 40, 56, 64)


class DensityCounter(nn.Module):
    """A regression counter of 0.5 M parameters: it says how much of which object is where, without boxes."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = HourGlass(WIDTHS)
        self.head = nn.Conv2d(WIDTHS[1], num_classes, 1)
        nn.init.normal_(self.head.weight, std=0.01)
        # exp(-8) in each of 1024 cells: a nearly empty image at the start.
        self.head.bias = nn.Parameter(torch.full((num_classes,), -8.0))

    def forward(self, images: Tensor) -> Tensor:
        """Density maps (B, C, H/4, W/4), at least 0, of RGB (B, 3, H, W) in [0, 1], sides divisible by 16.

        The sum of a map over the image is the count of that object.
        """
        return self.log_density(images).exp()

    def log_density(self, images: Tensor) -> Tensor:
        """Logarithm of the density maps, at least float32: what a Poisson likelihood is computed from."""
        maps: Tensor = self.head(self.features((images - 0.5) * 4))
        # No cell of 4x4 pixels holds more than a few objects; without a ceiling one wild cell would be infinite.
        return (maps if maps.dtype == torch.float64 else maps.float()).clamp(max=2.0)
