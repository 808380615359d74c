"""Gradient scaling that keeps a float16 backward pass in range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from countgen.backbones.prompt_embeds import PromptEmbeds

LARGEST_POWER = 64
"""The largest power of two that a gradient is multiplied by, so that a gradient of zero stays zero."""


class GradientScale:
    """A scale per image that is applied to the gradient at a half-precision model's output and removed at its input.

    A count loss gives a pixel a gradient near 1e-6, which float16 rounds to zero in the decoder's backward pass. The
    scale is a power of two, computed for each image in the backward pass itself: it has no setting, nothing is
    copied to the CPU, and a CUDA graph can hold it.
    """

    def __init__(self) -> None:
        self.factor: Tensor | None = None

    def scale_gradient(self, images: Tensor) -> Tensor:
        """Return float32 images (B, ...) unchanged; scale their gradient to a largest absolute value in (0.5, 1]."""
        return _MapGradient.apply(images, self._scaled)

    def unscale_gradient(self, tensor: Tensor) -> Tensor:
        """Return a tensor (B, ...) in float32, otherwise unchanged; divide its gradient by the scale."""
        return _MapGradient.apply(tensor.float(), self._unscaled)

    def unscale_embeds(self, embeds: PromptEmbeds) -> PromptEmbeds:
        """Return prompt embeddings unchanged; divide the gradients of those that require one by the scale."""
        return embeds.map(lambda embed: self.unscale_gradient(embed).to(embed.dtype) if embed.requires_grad else embed)

    def _scaled(self, gradient: Tensor) -> Tensor:
        peak = gradient.abs().flatten(1).amax(1).clamp(min=2.0**-LARGEST_POWER)
        self.factor = torch.exp2(-peak.log2().ceil())
        return gradient * _broadcastable(self.factor, gradient)

    def _unscaled(self, gradient: Tensor) -> Tensor:
        assert self.factor is not None
        return gradient / _broadcastable(self.factor, gradient)


class _MapGradient(Function):
    """Return a tensor unchanged; its gradient is that of the result after a function."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.function = function
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.function(gradient), None


def _broadcastable(factor: Tensor, like: Tensor) -> Tensor:
    return factor.view(-1, *[1] * (like.ndim - 1))
