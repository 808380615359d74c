"""Read and write the weights of our own detectors: safetensors, with the object names in the file's metadata."""

from __future__ import annotations

import hashlib
import json
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from countgen.files.printable import printable

if TYPE_CHECKING:
    from countgen.critics.base import Critic

Network = TypeVar("Network", bound=nn.Module)
AnyCritic = TypeVar("AnyCritic", bound="Critic")
MAX_CAUSE = 300
"""Largest length of a library's message inside ours."""


def one_line(error: Exception) -> str:
    """Return the type and the message of a library's exception in one line, cut to a readable length."""
    if isinstance(error, pickle.UnpicklingError) and isinstance(error.__context__, Exception):
        error = error.__context__  # torch.load wraps it in advice to trust the file
    return f"{type(error).__name__}: {printable(' '.join(str(error).split()), MAX_CAUSE)}"


def read(path: str | Path) -> tuple[dict[str, Tensor], tuple[str, ...], float | None]:
    """Return tensors as float32, the object names, and the threshold measured to count best, if the file has one.

    Raises:
        ValueError: the file is missing, or lacks object names.
    """
    path = Path(path)
    if path.suffix != ".safetensors" or not path.is_file():
        raise ValueError(f"no detector weights at {path}; give the path of an existing .safetensors file")
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    if "object_names" not in metadata:
        raise ValueError(
            f"{path} has no object names; write it with countgen.critics.weights.write, "
            'which puts a JSON list "object_names" into its metadata'
        )
    tensors = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    return tensors, _object_names(metadata["object_names"], path), threshold_of(metadata, path)


def _object_names(text: str, path: Path) -> tuple[str, ...]:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: its object_names are not valid JSON: {error}") from error
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(f"{path} is damaged: its object_names are not a list of names")
    return tuple(names)


def threshold_of(metadata: Mapping[str, str], path: Path) -> float | None:
    """Return the threshold in a file's metadata, or None.

    Raises:
        ValueError: it is not a number between 0 and 1.
    """
    if "threshold" not in metadata:
        return None
    try:
        value = float(metadata["threshold"])
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise ValueError(
            f"{path} is damaged: its threshold is {printable(metadata['threshold'], 60)!r}, expected 0 to 1"
        )
    return value


def rebuild(path: str | Path, build: Callable[[int], Network]) -> tuple[Network, tuple[str, ...], float | None]:
    """Return the network of a file on the CPU, its object names, and its threshold if the file has one.

    Args:
        path: written by `write`.
        build: function from the number of classes to the network with random weights.

    Raises:
        ValueError: as `read`, or the weights of another architecture.
    """
    tensors, object_names, threshold = read(path)
    network = build(len(object_names))
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(
            f"{path} does not hold the weights of a {type(network).__name__}: {one_line(error)}"
        ) from error
    return network, object_names, threshold


def restore(
    critic_class: type[AnyCritic],
    build: Callable[[int], nn.Module],
    *,
    weights: str | Path,
    device: torch.device | str = "cpu",
) -> AnyCritic:
    """Return the critic of a file that `write` wrote, named after it, with the threshold in the file.

    Args:
        critic_class: made as `Critic` is.
        build: as of `rebuild`.
        weights: the file.
        device: where it runs.

    Raises:
        ValueError: as `rebuild`.
    """
    network, object_names, threshold = rebuild(weights, build)
    critic = critic_class(network.to(device), object_names, name=recorded_as(critic_class.kind(), weights))
    if threshold is not None and critic.detects:
        critic.configure(threshold=threshold)
    return critic


def recorded_as(kind: str, path: str | Path) -> str:
    """Return the name in records of a critic from a weights file, for example "yolo:best-1a2b3c4d".

    It holds the file's stem, or its folder's name where that is "model", and the first digits of its SHA-256, since
    many files are called "best".
    """
    path = Path(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{kind}:{path.stem if path.stem != 'model' else path.resolve().parent.name}-{digest[:8]}"


def write(
    path: str | Path, tensors: Mapping[str, Tensor], object_names: Sequence[str], threshold: float | None = None
) -> None:
    """Write a state dict in half precision, with the metadata that `read` needs."""
    metadata = {"object_names": json.dumps(list(object_names))}
    if threshold is not None:
        metadata["threshold"] = repr(threshold)
    halves = {
        key: (value.half() if value.is_floating_point() else value).detach().cpu().contiguous().clone()
        for key, value in tensors.items()
    }
    unsafe = [key for key, value in halves.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if unsafe:
        raise ValueError(f"weights are not finite in half precision: {', '.join(unsafe[:5])}")
    save_file(halves, path, metadata=metadata)
