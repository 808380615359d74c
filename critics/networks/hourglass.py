"""Features of our own small counters: down to stride 16 and up again to stride 4."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 4
"""Pixels between the cells of the features."""
TRAINED_SIZE = 128
LARGEST_SIZE = 192
"""Images up to this many pixels are seen at their own size; larger ones are stretched to `TRAINED_SIZE`."""
_COARSEST_STRIDE = 16


def seen_size(height: int, width: int, scale: float = 1.0) -> tuple[int, int]:
    """Return the size an image is seen at: the nearest the network can take, or `TRAINED_SIZE` for large ones."""
    if max(height, width) > LARGEST_SIZE:
        height, width = TRAINED_SIZE, TRAINED_SIZE

    def nearest(side: int) -> int:
        return max(1, round(side * scale / _COARSEST_STRIDE)) * _COARSEST_STRIDE

    return nearest(height), nearest(width)


class HourGlass(nn.Module):
    """(B, 3, H, W) down to stride 16 and up again to (B, widths[1], H/4, W/4)."""

    def __init__(self, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        stem, fine, middle, coarse = widths
        self.down4 = nn.Sequential(
            convolution(3, stem, 2), convolution(stem, fine, 2), _Residual(fine), _Residual(fine)
        )
        self.down8 = nn.Sequential(convolution(fine, middle, 2), _Residual(middle), _Residual(middle))
        self.down16 = nn.Sequential(convolution(middle, coarse, 2), _Residual(coarse), _Residual(coarse))
        self.lateral8 = nn.Conv2d(coarse, middle, 1)
        self.up8 = _Residual(middle)
        self.lateral4 = nn.Conv2d(middle, fine, 1)
        self.up4 = _Residual(fine)

    def forward(self, images: Tensor) -> Tensor:
        fine = self.down4(images)
        middle = self.down8(fine)
        coarse = self.down16(middle)
        middle = self.up8(middle + F.interpolate(self.lateral8(coarse), scale_factor=2.0))
        merged: Tensor = self.up4(fine + F.interpolate(self.lateral4(middle), scale_factor=2.0))
        return merged


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(features + self.norm(self.second(self.first(features))))


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, normalisation, ReLU."""
    layer = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
