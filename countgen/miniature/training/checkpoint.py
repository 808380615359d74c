"""Checkpoints of a training run: weights, optimizer state, the settings of the run, and its log up to there."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

CHECKPOINT = "checkpoint.safetensors"
ADAM_MOMENTS = ("exp_avg", "exp_avg_sq", "step", "momentum_buffer")


def _optimizer_tensors(index: int, optimizer: Optimizer) -> dict[str, Tensor]:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return {
        f"optimizer.{index}.{number}.{name}": value
        for number, parameter in enumerate(parameters)
        for name, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor) and name in ADAM_MOMENTS
    }


def save_checkpoint(
    folder: Path,
    modules: Mapping[str, nn.Module],
    optimizers: Sequence[Optimizer],
    ema: Mapping[str, nn.Module],
    iteration: int,
    seconds: float,
    identity: Mapping[str, str],
) -> None:
    """Write weights, averages and optimizer moments atomically to one safetensors file."""
    tensors: dict[str, Tensor] = {}
    for kind, group in (("module", modules), ("ema", ema)):
        for name, module in group.items():
            tensors |= {f"{kind}.{name}.{key}": value for key, value in module.state_dict().items()}
    for index, optimizer in enumerate(optimizers):
        tensors |= _optimizer_tensors(index, optimizer)
    # Clones, because safetensors refuses tensors that share memory (tied embeddings).
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    partial = folder / f"{CHECKPOINT}.partial"
    save_file(tensors, partial, metadata={"iteration": str(iteration), "seconds": f"{seconds:.3f}", **identity})
    os.replace(partial, folder / CHECKPOINT)


def read_weights(path: Path, prefix: str) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file whose names start with `prefix`; the prefix is removed from the names.

    Raises:
        ValueError: there is no such file, or it has no such tensors.
    """
    if not path.is_file():
        raise ValueError(f"no weights at {path}; run the stage that writes them, or give another --init")
    with safe_open(path, "pt") as file:
        names = [key for key in file.keys() if key.startswith(prefix)]  # noqa: SIM118 - no mapping
        found = {key[len(prefix) :]: file.get_tensor(key) for key in names}
    if not found:
        raise ValueError(f"{path} holds no tensors named {prefix}*")
    return found


def checkpoint_notes(folder: Path) -> dict[str, str]:
    """Return the metadata of a folder's checkpoint, or an empty dictionary if there is none.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return {}
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata())
    except (SafetensorError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it to start again, or give another --out") from error


def progress_of(folder: Path) -> tuple[int, float]:
    """Return iteration and seconds used of a folder's checkpoint, or (0, 0.0) if there is none."""
    notes = checkpoint_notes(folder)
    return int(notes.get("iteration", 0)), float(notes.get("seconds", 0.0))


def check_identity(identity: Mapping[str, str], metadata: Mapping[str, str], folder: Path) -> None:
    """Check that a run to resume was started with the same settings.

    Raises:
        ValueError: the settings differ.
    """
    differing = [name for name in identity if metadata.get(name) != identity[name]]
    if differing:
        was = ", ".join(f"{name} {metadata.get(name)}" for name in differing)
        now = ", ".join(f"{name} {identity[name]}" for name in differing)
        raise ValueError(f"{folder} was started with {was}, got {now}; give the same settings, or another --out")


def load_checkpoint(
    folder: Path, modules: Mapping[str, nn.Module], optimizers: Sequence[Optimizer], ema: Mapping[str, nn.Module]
) -> tuple[int, float]:
    """Restore a folder's checkpoint and return iteration and seconds used, or (0, 0.0) if there is none."""
    path = folder / CHECKPOINT
    iteration, seconds = progress_of(folder)
    if not iteration:
        return 0, 0.0
    for kind, group in (("module", modules), ("ema", ema)):
        for name, module in group.items():
            module.load_state_dict(read_weights(path, f"{kind}.{name}."))
    with safe_open(path, "pt") as file:
        names = [key for key in file.keys() if key.startswith("optimizer.")]  # noqa: SIM118 - no mapping
        states = {key: file.get_tensor(key) for key in names}
    for index, optimizer in enumerate(optimizers):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for key, value in states.items():
            _, owner, number, name = key.split(".", 3)
            if int(owner) == index:
                parameter = parameters[int(number)]
                # Step counts stay on the CPU; moments need the parameter's device and memory format.
                state = value if name == "step" else torch.empty_like(parameter).copy_(value)
                optimizer.state[parameter][name] = state.detach()
    return iteration, seconds


def cut_metrics(path: Path, iteration: int) -> None:
    """Remove the log entries after the iteration of the checkpoint, which will be logged again."""
    if path.is_file():
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if _iteration_of(line) <= iteration))


def _iteration_of(line: str) -> float:
    try:
        return float(json.loads(line)["iteration"])
    except (ValueError, KeyError, TypeError):  # an incomplete line of a killed run
        return math.inf
