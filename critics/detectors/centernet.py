"""A CenterNet-style detector (Zhou et al. 2019, Objects as Points): a heat map of object centres as a critic."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countgen.critics.base import Critic, resized, scale_boxes
from countgen.critics.candidates import Proposals
from countgen.critics.networks.hourglass import STRIDE, HourGlass, convolution, seen_size
from countgen.critics.settings import CriticSettings
from countgen.critics.weights import restore

WIDTHS = (24, 48, 72, 80)
_SIZE_UNIT = 16.0
# Lowers the logit of a cell that is not the best of its neighbourhood below any threshold in use.
_NO_PEAK = 20.0


class CenterNet(nn.Module):
    """Heat map, size and offset of object centres on a grid of stride 4, with 0.8 M parameters."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = HourGlass(WIDTHS)
        last = nn.Conv2d(64, num_classes + 4, 1)
        nn.init.normal_(last.weight, std=0.01)
        # Nearly every cell is empty: start there, or the first steps only unlearn false alarms.
        start = torch.zeros(num_classes + 4)
        start[:num_classes] = -4.0
        last.bias = nn.Parameter(start)
        self.head = nn.Sequential(convolution(WIDTHS[1], 64), last)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Read images.

        Args:
            images: RGB (B, 3, H, W) in [0, 1], sides divisible by 16.

        Returns:
            Heat-map logits (B, C, H/4, W/4); logarithm of width and height in units of 16 pixels (B, 2, H/4, W/4);
            offset of the centre from the middle of its cell, in cells (B, 2, H/4, W/4).
        """
        output = self.head(self.features((images - 0.5) * 4))
        return output[:, :-4], output[:, -4:-2], output[:, -2:]


class CenterNetCritic(Critic):
    """Counts the peaks of a heat map, differentiably.

    A cell that is not the highest of its 3x3 neighbourhood in its class is pushed far below the threshold; which
    cells these are is decided without gradient, as for boxes under non-maximum suppression.
    """

    family = "centernet"
    settings = CriticSettings(threshold=0.4)
    max_count = 256  # peaks of 3x3 neighbourhoods on 32x32 cells
    scale = 1.0

    def at_scale(self, factor: float) -> CenterNetCritic:
        scaled = copy.copy(self)
        scaled.scale = self.scale * factor
        return scaled

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        """See `Critic.propose`; one proposal per cell."""
        columns = tuple(self.column(name) for name in object_names)
        height, width = images.shape[-2:]
        seen_height, seen_width = seen_size(height, width, self.scale)
        heat, log_size, offset = self.model(resized(images, seen_height, seen_width))
        with torch.no_grad():
            peaks = heat == F.max_pool2d(heat, 3, stride=1, padding=1)
            boxes = scale_boxes(decode(log_size, offset), width / seen_width, height / seen_height)
        logits = torch.where(peaks, heat, heat - _NO_PEAK)
        return Proposals(boxes, logits.flatten(2).transpose(1, 2), columns)


load = partial(restore, CenterNetCritic, CenterNet)


def decode(log_size: Tensor, offset: Tensor) -> Tensor:
    """Return the boxes (B, H * W, 4), pixel xyxy, of the size and offset maps (B, 2, H, W) each."""
    rows, columns = log_size.shape[-2:]
    across = torch.arange(columns, device=log_size.device) + 0.5
    down = torch.arange(rows, device=log_size.device) + 0.5
    cells = torch.stack(torch.meshgrid(across, down, indexing="xy"))
    centre = (cells + offset) * STRIDE
    half = log_size.clamp(-4, 4).exp() * _SIZE_UNIT / 2
    return torch.cat([centre - half, centre + half], 1).flatten(2).transpose(1, 2)


def encode_size(boxes: Tensor) -> Tensor:
    """Return the target of the size maps for boxes (..., 4): log of (width, height) in units of 16 pixels, (..., 2)."""
    return ((boxes[..., 2:] - boxes[..., :2]).clamp(min=1) / _SIZE_UNIT).log()
