"""NanoDet (RangiLyu 2020): a one-stage, anchor-free detector, in the variant with a CSP backbone.

Written from the published graph; its batch normalisation is folded into the convolutions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

STRIDES = (8, 16, 32)
BINS = 11
"""Values that the distance from a cell's centre to a side of the box may have: 0 to 10 strides."""
_WIDTHS = (32, 64, 128, 256)
_BLOCKS = (1, 2, 2, 3)
_NECK = 128
# In the order of the input channels: blue, green, red.
_MEAN = (103.53, 116.28, 123.675)
_STD = (57.375, 57.12, 58.395)


class NanoDet(nn.Module):
    """Class logits and box distances on three grids, of strides 8, 16 and 32."""

    mean: Tensor
    std: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = Convolution(3, _WIDTHS[0], stride=2)
        inputs = (_WIDTHS[0], *(2 * width for width in _WIDTHS))
        # The pooling after the stem stands for the first stage's stride.
        plan = zip(inputs, _WIDTHS, _BLOCKS, (1, 2, 2, 2), strict=False)
        self.stages = nn.ModuleList([Stage(*sizes) for sizes in plan])
        self.laterals = nn.ModuleList([nn.Conv2d(2 * width, _NECK, 1) for width in _WIDTHS[1:]])
        self.heads = nn.ModuleList(
            [nn.Sequential(Convolution(_NECK, _NECK), nn.Conv2d(_NECK, num_classes + 4 * BINS, 1)) for _ in STRIDES]
        )
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1) / 255, persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1) / 255, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits and boxes of every cell.

        Args:
            images: RGB (B, 3, H, W) in [0, 1], sides divisible by 32.

        Returns:
            Class logits (B, A, C), and boxes (B, A, 4) in pixels, xyxy; the cells of the finest grid come first.
        """
        maps = self.maps(images)
        logits = torch.cat([grid[:, : self.num_classes].flatten(2) for grid in maps], 2).transpose(1, 2)
        boxes = torch.cat(
            [decode(grid[:, self.num_classes :], stride) for grid, stride in zip(maps, STRIDES, strict=True)], 1
        )
        return logits, boxes

    def maps(self, images: Tensor) -> list[Tensor]:
        """Output of the three heads, finest first: (B, C + 44, H / stride, W / stride), class logits first."""
        x = self.stem((images.flip(1) - self.mean) / self.std)
        x = max_pool2d(x, 3, stride=2, padding=1)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        fine, middle, coarse = (lateral(x) for lateral, x in zip(self.laterals, features[1:], strict=True))
        middle = middle + _resized(coarse, middle)
        fine = fine + _resized(middle, fine)
        middle = middle + _resized(fine, middle)
        coarse = coarse + _resized(middle, coarse)
        return [head(x) for head, x in zip(self.heads, (fine, middle, coarse), strict=True)]


class Stage(nn.Module):
    """A convolution and residual blocks, concatenated: (B, inputs, H, W) to (B, 2 * width, H / stride, W / stride)."""

    def __init__(self, inputs: int, width: int, blocks: int, stride: int) -> None:
        super().__init__()
        self.reduce = Convolution(inputs, width, stride=stride)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.merge = Convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        return torch.cat([self.merge(self.blocks(x)), x], 1)


class Block(nn.Module):
    """Two convolutions of half the width, their outputs concatenated."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = Convolution(width, width // 2)
        self.second = Convolution(width // 2, width // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return torch.cat([self.second(x), x], 1)


class Convolution(nn.Sequential):
    """A 3x3 convolution and a leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.LeakyReLU(0.1))


def decode(distances: Tensor, stride: int) -> Tensor:
    """Return the boxes of a grid's distance distributions, without clipping.

    Each distance is the expectation of a softmax over `BINS` values, as in Generalized Focal Loss (Li et al. 2020).

    Args:
        distances: (B, 4 * BINS, H, W), left, top, right and bottom.
        stride: pixels per cell.

    Returns:
        (B, H * W, 4) in pixels, xyxy.
    """
    rows, columns = distances.shape[-2:]
    values = torch.arange(BINS, device=distances.device, dtype=distances.dtype)
    shares = distances.flatten(2).unflatten(1, (4, BINS)).softmax(2)
    left, top, right, bottom = ((shares * values.view(1, 1, BINS, 1)).sum(2) * stride).unbind(1)
    across = (torch.arange(columns, device=distances.device, dtype=distances.dtype) + 0.5) * stride
    down = (torch.arange(rows, device=distances.device, dtype=distances.dtype) + 0.5) * stride
    x, y = across.repeat(rows), down.repeat_interleave(columns)
    return torch.stack([x - left, y - top, x + right, y + bottom], -1)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)
