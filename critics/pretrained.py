"""Shared parts of the critics built on transformers: read a checkpoint, and prepare images with its processor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn

from countgen.critics.base import scale_boxes

_LONGEST_CAUSE = 300
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def locate(weights: str, presets: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the folder or the hub's repository of some weights, and the revision that a preset is read at.

    Args:
        weights: a key of `presets`, a repository's name, or a folder.
        presets: short names of repositories, some with "@" and a revision.

    Raises:
        ValueError: it is no folder, and no name that a repository can have.
    """
    preset, _, revision = presets.get(weights, "").partition("@")
    name = preset or str(weights)
    if not Path(name).exists() and not _REPOSITORY.fullmatch(name):
        raise ValueError(
            f"there is no folder {name!r}; give one that exists, or a repository as OWNER/NAME"
            f"{', or one of ' * bool(presets)}{', '.join(presets)}"
        )
    return name, revision or None


def read(loader: Any, weights: str, presets: Mapping[str, str], revision: str | None, **options: Any) -> Any:
    """Return the result of `from_pretrained`, by preset, repository name or folder; pickles are never read.

    Args:
        loader: a class of transformers.
        weights, presets: as of `locate`.
        revision: a branch, tag or commit; None for the repository's main branch.
        **options: for `from_pretrained`.

    Raises:
        ValueError: as `locate`; it cannot be read, or needs a package that is not installed.
    """
    name, own_revision = locate(weights, presets)
    if revision or own_revision:
        options["revision"] = revision or own_revision
    try:
        return loader.from_pretrained(name, **options)
    except ImportError as error:
        raise ValueError(f"{name!r} needs a package that is not installed: {_in_a_line(error)}") from error
    except (OSError, ValueError) as error:
        raise ValueError(
            f"cannot read {loader.__name__} from {name!r}: give a folder, a repository's name"
            f"{' or one of ' * bool(presets)}{', '.join(presets)}; a repository is downloaded once, unless "
            f"HF_HUB_OFFLINE is set. The cause: {_in_a_line(error)}"
        ) from error


def _in_a_line(error: Exception) -> str:
    """Return a message of transformers in one line; those that list every model it knows are cut."""
    return shorten(str(error), _LONGEST_CAUSE, placeholder=" ...")


def read_complete(loader: Any, weights: str, presets: Mapping[str, str], revision: str | None, **options: Any) -> Any:
    """Return a model as `read` does, all of whose weights come from the checkpoint.

    transformers gives weights that a checkpoint lacks, or names otherwise, random values and a warning: such a judge
    counts nonsense.

    Raises:
        ValueError: it cannot be read, or weights are missing or of another shape.
    """
    model, info = read(loader, weights, presets, revision, output_loading_info=True, use_safetensors=True, **options)
    lost = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
    if lost:
        raise ValueError(
            f"{weights} lacks {len(lost)} weights of {type(model).__name__}, such as {lost[0]}: it would be random "
            "there; give the repository or revision that this version of transformers reads"
        )
    return model


def read_zero_shot(weights: str, presets: Mapping[str, str], revision: str | None) -> tuple[Any, Any, Any]:
    """Return a zero-shot detector in float32, its image processor and its tokenizer; arguments as of `read`."""
    from transformers import AutoImageProcessor, AutoModelForZeroShotObjectDetection, AutoTokenizer

    options = {"use_safetensors": True, "dtype": torch.float32}
    model = read(AutoModelForZeroShotObjectDetection, weights, presets, revision, **options)
    return (
        model,
        read(AutoImageProcessor, weights, presets, revision),
        read(AutoTokenizer, weights, presets, revision),
    )


def recorded_as(kind: str, weights: str, revision: str | None) -> str:
    """Return the name in records of a critic from a repository or folder: its last part, and a given revision."""
    place = str(weights).rstrip("/").rsplit("/", 1)[-1]
    return f"{kind}:{place}@{revision}" if revision else f"{kind}:{place}"


def pixels(processor: Any, images: Tensor, model: nn.Module) -> dict[str, Tensor]:
    """Return `pixel_values`, and `pixel_mask` where the processor returns one, with gradient to the images.

    Args:
        processor: an image processor of transformers' torchvision backend; the PIL ones cut the graph.
        images: RGB float (B, 3, H, W) in [0, 1].
        model: its dtype is that of the result.

    Raises:
        ValueError: the processor cut the graph.
    """
    # The images are in [0, 1] already.
    prepared = processor(images=list(images), do_rescale=False, return_tensors="pt")
    if images.requires_grad and torch.is_grad_enabled() and not prepared["pixel_values"].requires_grad:
        raise ValueError(f"{type(processor).__name__} cuts the gradient; use the torchvision image processor")
    dtype = next(model.parameters()).dtype
    inputs = {"pixel_values": prepared["pixel_values"].to(images.device, dtype)}
    if "pixel_mask" in prepared:
        inputs["pixel_mask"] = prepared["pixel_mask"].to(images.device)
    return inputs


def corners(boxes: Tensor, height: float, width: float) -> Tensor:
    """Return absolute xyxy of relative (centre x, centre y, width, height) boxes (..., 4)."""
    x, y, box_width, box_height = boxes.unbind(-1)
    relative = torch.stack([x - box_width / 2, y - box_height / 2, x + box_width / 2, y + box_height / 2], -1)
    return scale_boxes(relative, width, height)
