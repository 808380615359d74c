"""Check the input of a critic: images, object names and counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

DARKEST, BRIGHTEST = -0.5, 1.5
"""Limits outside which `Critic.counts` refuses a tensor as an image in [0, 1]."""


def to_batch(image: Image | Tensor) -> Tensor:
    """Return RGB float (B, 3, H, W) in [0, 1] from a PIL image, a (3, H, W) or a (B, 3, H, W) tensor.

    Values are not checked, since that would synchronise a GPU; `Critic.counts` checks them.

    Raises:
        ValueError: another type, a tensor of another shape or of integers, or no pixels.
    """
    if not isinstance(image, Tensor):
        if not hasattr(image, "convert"):
            raise ValueError(
                f"expected a PIL image or a float tensor, got {type(image).__name__}; open a file with "
                "PIL.Image.open, turn an array into an image with PIL.Image.fromarray"
            )
        pixels = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
        return pixels.view(1, image.height, image.width, 3).permute(0, 3, 1, 2).float() / 255
    batch = image[None] if image.ndim == 3 else image
    if batch.ndim != 4 or batch.shape[1] != 3 or not batch.is_floating_point():
        raise ValueError(
            f"expected an RGB float image (3, H, W) or (B, 3, H, W) with values in [0, 1], got {image.dtype} "
            f"{tuple(image.shape)}; divide 8-bit images by 255"
        )
    if batch.numel() == 0:
        raise ValueError(f"expected at least one image with pixels, got {tuple(image.shape)}")
    return batch


def checked_images(image: Image | Tensor) -> Tensor:
    """Return the batch of `to_batch` after a check of its values; a little outside [0, 1] is accepted.

    Raises:
        ValueError: as `to_batch`, or values that are not finite or far outside [0, 1].
    """
    batch = to_batch(image)
    darkest, brightest = float(batch.amin()), float(batch.amax())
    if not (darkest >= DARKEST and brightest <= BRIGHTEST):
        raise ValueError(
            f"expected values in [0, 1], got {darkest:g} to {brightest:g}; divide 8-bit images by 255, and "
            "bring images in [-1, 1] there by / 2 + 0.5"
        )
    return batch


def check_names(object_names: Sequence[str]) -> None:
    """Refuse object names that are missing or empty.

    Raises:
        ValueError: one name instead of several, none at all, or an empty one.
    """
    if isinstance(object_names, str) or not object_names or not all(name.strip() for name in object_names):
        raise ValueError(f"expected one or several object names, like ['apple', 'dog'], got {object_names!r}")


def check_targets(target_counts: Mapping[str, int], loss: object) -> None:
    """Refuse impossible counts, and a loss that is not callable.

    Raises:
        ValueError: a count that is not a whole number of at least 0, or a loss that is not callable.
    """
    for name, target_count in target_counts.items():
        if not isinstance(target_count, int) or target_count < 0:
            raise ValueError(f"expected a whole number from 0 on for {name!r}, got {target_count!r}")
    if not callable(loss):
        raise ValueError(f"expected a function of critics.losses, got {loss!r}; its names stand in LOSSES")
