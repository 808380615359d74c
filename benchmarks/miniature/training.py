"""The training loop of all stages: budgets, learning rate, moving average, log, samples and checkpoints."""

from __future__ import annotations

import copy
import json
import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"
SECONDS_BETWEEN_CHECKPOINTS = 60.0
SECONDS_BETWEEN_LOGS = 5.0

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class StageSettings:
    """The options of a stage, as `--help` describes them; None stands for the stage's own default.

    Both budgets are sums over all runs in the folder; training ends at the first used up.
    """

    stage: str
    out: Path
    device: str = "cpu"
    seconds: float | None = None
    iterations: int | None = None
    batch_size: int | None = None
    seed: int = 0
    init: Path | None = None
    data: Path | None = None
    learning_rate: float | None = None
    number: int | None = None

    def __post_init__(self) -> None:
        if self.seconds is None and self.iterations is None:
            raise ValueError("a stage needs a budget: give --seconds, --iterations or both")

    @property
    def identity(self) -> dict[str, str]:
        """The settings that must be the same to resume a run."""
        return {"stage": self.stage, "seed": str(self.seed), "init": str(self.init), "data": str(self.data)}

    def progress(self, iteration: int, seconds: float) -> float:
        """Return the fraction of the budget that is used up; 1 or more at the end."""
        return max(seconds / (self.seconds or math.inf), iteration / (self.iterations or math.inf))

    def data_seed(self) -> int:
        """Return a seed that depends on the iterations so far, so that a resumed run does not repeat its data."""
        return self.seed * 1_000_003 + int(read_notes(self).get("iteration", 0))


def autocast(device: str, *, on_cpu: bool = False) -> AbstractContextManager[object]:
    """Return bfloat16 autocast on CUDA, and full precision on a CPU.

    With `on_cpu` also on x86 CPUs with AVX512-BF16, which halves the time; results then differ between CPUs.
    """
    cuda = device.startswith("cuda")
    native = cuda or (on_cpu and bool(torch.cpu.get_capabilities().get("avx512_bf16")))
    return torch.autocast("cuda" if cuda else "cpu", torch.bfloat16, native)


def learning_rate_factor(progress: float, iteration: int) -> float:
    """Return a linear warm-up over 100 iterations times half a cosine from 1 to 0.02, by progress in [0, 1]."""
    return min(1.0, (iteration + 1) / 100) * (0.51 + 0.49 * math.cos(math.pi * min(progress, 1.0)))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, iteration: int, decay: float) -> None:
    """Update an exponential moving average; its decay at iteration i is at most (1 + i) / (10 + i)."""
    decay = min(decay, (1 + iteration) / (10 + iteration))
    torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in model.parameters()], 1 - decay)
    for ours, theirs in zip(average.buffers(), model.buffers(), strict=True):
        ours.copy_(theirs)


def train(
    settings: StageSettings,
    model: Model,
    loss: Callable[[int, float], tuple[Tensor, dict[str, Tensor]]],
    *,
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.99),
    max_grad_norm: float = 1.0,
    decay: float = 0.999,
) -> Model:
    """Train a model with AdamW until the budget is used up, and return its moving average.

    A checkpoint in the folder is resumed. Randomness is seeded from the seed and the first iteration of the run.
    Parameters that require no gradient stay as they are. `loss` takes the iteration and the progress in [0, 1), and
    returns the loss and other 0-dimensional tensors for the log.
    """
    average = copy.deepcopy(model).eval().requires_grad_(False)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rate = settings.learning_rate or learning_rate
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=betas, weight_decay=0.01)
    torch.manual_seed(settings.data_seed())
    modules: dict[str, nn.Module] = {"model": model, "average": average}
    iteration, used = load_checkpoint(settings, modules, optimizer)
    begun = last_log = last_save = time.monotonic()
    settings.out.mkdir(parents=True, exist_ok=True)

    def save() -> None:
        save_checkpoint(settings, modules, optimizer, iteration, used + time.monotonic() - begun)

    with (settings.out / METRICS).open("a") as log:
        try:
            while (progress := settings.progress(iteration, used + time.monotonic() - begun)) < 1:
                optimizer.param_groups[0]["lr"] = rate * learning_rate_factor(progress, iteration)
                value, metrics = loss(iteration, progress)
                metrics = {"loss": value.detach(), **metrics}
                optimizer.zero_grad()
                value.backward()
                nn.utils.clip_grad_norm_(parameters, max_grad_norm)
                optimizer.step()
                update_average(average, model, iteration, decay)
                iteration += 1
                now = time.monotonic()
                if iteration in (1, settings.iterations) or now - last_log > SECONDS_BETWEEN_LOGS:
                    record = {"iteration": iteration, "seconds": round(used + now - begun, 1)}
                    record |= {name: round(float(number), 6) for name, number in metrics.items()}
                    for stream in (log, sys.stdout):
                        print(json.dumps(record), file=stream, flush=True)
                    last_log = now
                if now - last_save > SECONDS_BETWEEN_CHECKPOINTS:
                    save()
                    last_save = now
        finally:  # an interrupted run too
            save()
    return average


def save_checkpoint(
    settings: StageSettings, modules: dict[str, nn.Module], optimizer: Optimizer, iteration: int, seconds: float
) -> None:
    """Write weights and optimizer state atomically to one safetensors file."""
    tensors = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    # Clones, because safetensors rejects tensors that share memory (tied embeddings).
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    partial = settings.out / f"{CHECKPOINT}.partial"
    save_file(tensors, partial, {**settings.identity, "iteration": str(iteration), "seconds": f"{seconds:.3f}"})
    os.replace(partial, settings.out / CHECKPOINT)


def read_notes(settings: StageSettings) -> dict[str, str]:
    """Return the metadata of the checkpoint in the run's folder, or an empty dictionary without a checkpoint.

    Raises:
        ValueError: the folder belongs to a run with other settings.
    """
    path = settings.out / CHECKPOINT
    if not path.is_file():
        return {}
    with safe_open(path, "pt") as file:
        notes: dict[str, str] = file.metadata()
    for name, value in settings.identity.items():
        if notes[name] != value:
            raise ValueError(
                f"{settings.out} was started with {name} {notes[name]}, got {value}; give the same, or another --out"
            )
    return notes


def load_checkpoint(settings: StageSettings, modules: dict[str, nn.Module], optimizer: Optimizer) -> tuple[int, float]:
    """Restore the checkpoint in the run's folder, if any; return the completed iterations and seconds."""
    notes = read_notes(settings)
    if not notes:
        return 0, 0.0
    tensors = load_file(settings.out / CHECKPOINT)

    def group(prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

    for name, module in modules.items():
        module.load_state_dict(group(f"{name}."))
    state = optimizer.state_dict()
    state["state"] = {index: group(f"optimizer.{index}.") for index in state["param_groups"][0]["params"]}
    optimizer.load_state_dict(state)
    return int(notes["iteration"]), float(notes["seconds"])
