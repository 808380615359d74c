"""Check the input of a critic: images, object names and counts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

AnyImage: TypeAlias = Union["Image", Tensor, NDArray[Any], str, os.PathLike[str]]
"""What is read as an image."""

DARKEST, BRIGHTEST = -0.5, 1.5
"""Limits of the values of a tensor that `Critic.counts` takes for an image in [0, 1]."""


def to_batch(image: AnyImage) -> Tensor:
    """Return RGB float (B, 3, H, W) in [0, 1] from a file, a PIL image, an array or a tensor.

    Args:
        image: a path; a PIL image; a numpy array (H, W, 3), RGB, of 8-bit integers or of floats in [0, 1]; or a float
            tensor (3, H, W) or (B, 3, H, W) in [0, 1].

    Values are not checked, since that would synchronise a GPU; `Critic.counts` checks them.

    Raises:
        ValueError: something else, a tensor of another shape or of integers, an empty batch, or a file that
            `countgen.files.image_file.open_image` does not read.
        OSError: the file is missing or cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        from countgen.files.image_file import open_image  # imports PIL, which detectors of tensors do not need

        image = open_image(os.fspath(image))
    if not isinstance(image, Tensor) and hasattr(image, "convert"):
        image = np.asarray(image.convert("RGB"))
    if isinstance(image, np.ndarray):
        return _of_array(image)
    if not isinstance(image, Tensor):
        raise ValueError(
            f"expected a path, a PIL image, a numpy array (H, W, 3) or a float tensor, got {type(image).__name__}"
        )
    batch = image[None] if image.ndim == 3 else image
    if batch.ndim != 4 or batch.shape[1] != 3 or not batch.is_floating_point():
        raise ValueError(
            f"expected an RGB float image (3, H, W) or (B, 3, H, W) with values in [0, 1], got {image.dtype} "
            f"{tuple(image.shape)}; divide 8-bit images by 255"
        )
    if batch.numel() == 0:
        raise ValueError(f"expected at least one image with pixels, got {tuple(image.shape)}")
    return batch


def _of_array(array: NDArray[Any]) -> Tensor:
    if array.ndim != 3 or array.shape[2] != 3 or not (array.dtype == np.uint8 or array.dtype.kind == "f"):
        raise ValueError(
            f"expected an RGB array (H, W, 3) of 8-bit integers or of floats in [0, 1], got {array.dtype} {array.shape}"
        )
    pixels = torch.tensor(np.ascontiguousarray(array)).permute(2, 0, 1)
    return to_batch(pixels.float() / 255 if array.dtype == np.uint8 else pixels.float())


def checked_images(image: AnyImage) -> Tensor:
    """Return the batch as `to_batch` does, checking its values; generators leave [0, 1] a little.

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
    """Raise unless there are object names, none of them empty.

    Raises:
        ValueError: one name instead of several, none at all, or an empty one.
    """
    if isinstance(object_names, str) or not object_names or not all(name.strip() for name in object_names):
        raise ValueError(f"expected one or several object names, like ['apple', 'dog'], got {object_names!r}")


def check_targets(target_counts: Mapping[str, int], loss: object) -> None:
    """Raise for impossible counts, or a loss that is not callable.

    Raises:
        ValueError: a count that is not a whole number of at least 0, or a loss that is not callable.
    """
    for name, target_count in target_counts.items():
        if not isinstance(target_count, int) or target_count < 0:
            raise ValueError(f"expected a whole number from 0 on for {name!r}, got {target_count!r}")
    if not callable(loss):
        raise ValueError(f"expected a function of countgen.critics.losses, got {loss!r}; its names stand in LOSSES")
