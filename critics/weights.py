"""Read and write the weights of our own detectors: safetensors, with the object names in the file's metadata."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import torch
from msgspec import Meta
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from countgen.files.printable import printable

if TYPE_CHECKING:
    from countgen.critics.base import Critic

AnyCritic = TypeVar("AnyCritic", bound="Critic")
MAX_CAUSE = 300
"""Largest length of a library's message inside ours."""
_Names = Annotated[tuple[Annotated[str, Meta(pattern=r"\S")], ...], Meta(min_length=1)]
_Threshold = Annotated[float, Meta(gt=0, lt=1)]


def one_line(error: Exception) -> str:
    """Return the type and the message of a library's exception in one line, cut to a readable length."""
    if isinstance(error, pickle.UnpicklingError) and isinstance(error.__context__, Exception):
        error = error.__context__  # torch.load wraps it in advice to trust the file
    return f"{type(error).__name__}: {printable(' '.join(str(error).split()), MAX_CAUSE)}"


@contextmanager
def explained(problem: str, *others: type[Exception]) -> Iterator[None]:
    """Turn every error of a library within the context into a ValueError that names the problem.

    Args:
        problem: start of the message, which ends with the type and message of the library's exception.
        others: exceptions that are raised as they are, besides those for too little memory.
    """
    try:
        yield
    except Exception as error:  # of any type: libraries check little of what they read
        if isinstance(error, (MemoryError, torch.OutOfMemoryError, *others)):
            raise
        raise ValueError(f"{problem}: {one_line(error)}") from error


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
    tensors = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    with explained(f"{path} has no list of object_names; write it with countgen.critics.weights.write"):
        object_names = msgspec.json.decode(metadata.get("object_names", "null"), type=_Names)
    return tensors, object_names, threshold_of(metadata, path)


def threshold_of(metadata: Mapping[str, str], path: Path) -> float | None:
    """Return the threshold in a file's metadata, or None.

    Raises:
        ValueError: it is not a number between 0 and 1.
    """
    if "threshold" not in metadata:
        return None
    with explained(f"{path} is damaged: its threshold is not between 0 and 1"):
        return msgspec.json.decode(metadata["threshold"], type=_Threshold)


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
        build: function from the number of classes to the network with random weights.
        weights: the file.
        device: where it runs.

    Raises:
        ValueError: as `read`, or the weights of another architecture.
    """
    tensors, object_names, threshold = read(weights)
    network = build(len(object_names))
    with explained(f"{weights} does not hold the weights of a {type(network).__name__}"):
        network.load_state_dict(tensors)
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
