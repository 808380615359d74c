"""Keep a float16 backward pass in range."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

LARGEST_POWER = 64
"""A picture's gradient is multiplied by at most 2 to this power, so that one of zero stays zero."""


class GradientScale:
    """Brings each picture's gradient to about one where it enters a half-precision model, and back where it leaves.

    A count loss gives a pixel a gradient near 1e-6, which float16 rounds away in the decoder's backward. The
    scale is a power of two, one per picture, chosen in the backward itself: nothing is tuned, nothing is
    copied to the CPU, and a CUDA graph can hold it.
    """

    def __init__(self) -> None:
        self.factor: Tensor | None = None

    def enter(self, images: Tensor) -> Tensor:
        """Float32 (B, ...) as it is; its gradient is scaled to a largest absolute value in (0.5, 1]."""
        return _Enter.apply(images, self)

    def leave(self, tensor: Tensor) -> Tensor:
        """(B, ...) as it is; its gradient, in float32, is scaled back."""
        return _Leave.apply(tensor.float(), self)


class _Enter(Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, scale: GradientScale) -> Tensor:
        ctx.scale = scale
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        peak = gradient.abs().flatten(1).amax(1).clamp(min=2.0**-LARGEST_POWER)
        ctx.scale.factor = torch.exp2(-peak.log2().ceil())
        return gradient * _wide(ctx.scale.factor, gradient), None


class _Leave(Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, scale: GradientScale) -> Tensor:
        ctx.scale = scale
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient / _wide(ctx.scale.factor, gradient), None


def _wide(factor: Tensor, like: Tensor) -> Tensor:
    return factor.view(-1, *[1] * (like.ndim - 1))
