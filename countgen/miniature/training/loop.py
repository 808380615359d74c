"""The training loop of all stages, with budgets, learning rate schedule, log, samples and resume."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from countgen.miniature.training.checkpoint import (
    CHECKPOINT,
    check_identity,
    checkpoint_notes,
    cut_metrics,
    load_checkpoint,
    progress_of,
    save_checkpoint,
)

METRICS = "metrics.jsonl"
SECONDS_BETWEEN_CHECKPOINTS = 60.0
SECONDS_BETWEEN_LOGS = 5.0
RANDOM = Path("random")
"""The value of a stage's `init` that stands for random weights."""


@dataclass(frozen=True)
class StageSettings:
    """The settings of a stage; None stands for the stage's own default.

    Attributes:
        out: folder of the run; it is created, or resumed if it holds a checkpoint.
        stage: name of the stage; a folder belongs to one stage, `seed`, `init` and `data`.
        device: "cuda" or "cpu".
        seconds: wall-clock budget of the training steps over all runs in this folder, or None.
        iterations: budget in iterations, or None. At least one budget is needed; training ends at the first used up.
        batch_size: number of images per step.
        seed: seed of weights, data and noise.
        init: file or folder with the initial weights, or `RANDOM`.
        data: folder with the output of an earlier stage (pairs, a generator).
        learning_rate: initial learning rate.
        number: number of samples, in the stages that make samples.
        compile: whether to compile networks with torch.compile (CUDA only; takes minutes at the start).
    """

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
    compile: bool = False
    stage: str = ""

    @property
    def identity(self) -> dict[str, str]:
        """The settings that must be the same to resume a run."""
        return {"stage": self.stage, "seed": str(self.seed), "init": str(self.init), "data": str(self.data)}

    @property
    def fresh(self) -> bool:
        """Whether training starts from random weights."""
        return self.init == RANDOM

    def __post_init__(self) -> None:
        if self.seconds is not None and self.seconds <= 0:
            raise ValueError(f"seconds is {self.seconds}; give a time above 0, or leave it out")
        if self.iterations is not None and self.iterations < 1:
            raise ValueError(f"iterations is {self.iterations}; give 1 or more, or leave it out")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; give 1 or more, or leave it out")
        if self.number is not None and self.number < 1:
            raise ValueError(f"number is {self.number}; give 1 or more, or leave it out")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}; give a rate above 0, or leave it out")
        try:
            torch.device(self.device)
        except RuntimeError as error:
            raise ValueError(f"no device {self.device!r}; give cpu or cuda") from error
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(f"device {self.device!r} was given, but there is no CUDA GPU; use cpu")


def learning_rate_factor(progress: float, iteration: int, *, warmup: int = 100, floor: float = 0.02) -> float:
    """Return a linear warm-up over the first iterations times half a cosine down to `floor`, by progress in [0, 1]."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    return min(1.0, (iteration + 1) / warmup) * (floor + (1 - floor) * cosine)


def adamw(groups: Sequence[tuple[nn.Module, float]], betas: tuple[float, float] = (0.9, 0.99)) -> Optimizer:
    """Return AdamW for modules, each with its own learning rate."""
    parameters = [{"params": list(module.parameters()), "lr": rate} for module, rate in groups]
    return torch.optim.AdamW(parameters, betas=betas, weight_decay=0.01)


def autocast(device: str, *, on_cpu: bool = False) -> AbstractContextManager[object]:
    """Return bfloat16 autocast on CUDA, and full precision on a CPU.

    With `on_cpu` also on x86 CPUs with AVX512-BF16, which halves the time; results then differ between CPUs.
    """
    cuda = device.startswith("cuda")
    native = cuda or (on_cpu and bool(torch.cpu.get_capabilities().get("avx512_bf16")))
    return torch.autocast("cuda" if cuda else "cpu", torch.bfloat16, native)


def update_average(average: nn.Module, module: nn.Module, iteration: int, decay: float = 0.999) -> None:
    """Update an exponential moving average; its decay at iteration i is at most (1 + i) / (10 + i)."""
    decay = min(decay, (1 + iteration) / (10 + iteration))
    with torch.no_grad():
        floats = [(a, b) for a, b in zip(average.parameters(), module.parameters(), strict=True)]
        torch._foreach_lerp_([a for a, _ in floats], [b.detach() for _, b in floats], 1 - decay)
        for a, b in zip(average.buffers(), module.buffers(), strict=True):
            a.copy_(b)


def is_finished(settings: StageSettings, product: Path) -> bool:
    """Return whether the budget is used up and the product exists; stages check it before any work.

    Raises:
        ValueError: no budget is set, or the folder was started with other settings.
    """
    if settings.seconds is None and settings.iterations is None:
        raise ValueError("a stage needs a budget: give --seconds, --iterations or both")
    notes = checkpoint_notes(settings.out)
    if not notes:
        return False
    check_identity(settings.identity, notes, settings.out)
    iteration, used = progress_of(settings.out)
    finished = _progress(settings, iteration, used) >= 1 and product.exists()
    if finished:
        print(
            f"{settings.out} is finished: {iteration} iterations in {used:.0f} s; a larger budget resumes it",
            flush=True,
        )
    return finished


def _progress(settings: StageSettings, iteration: int, used: float) -> float:
    return max(
        used / settings.seconds if settings.seconds else 0.0,
        iteration / settings.iterations if settings.iterations else 0.0,
    )


def data_seed(settings: StageSettings) -> int:
    """Return a seed that depends on the iterations so far, so that a resumed run does not repeat its data."""
    return settings.seed * 1_000_003 + progress_of(settings.out)[0]


@contextmanager
def _saved_on_interrupt(save: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        save()
        raise


def train(
    settings: StageSettings,
    modules: Mapping[str, nn.Module],
    optimizers: Sequence[Optimizer],
    step: Callable[[int, float], Mapping[str, float | Tensor]],
    *,
    sample: Callable[[Path], None] | None = None,
    seconds_between_samples: float = 60.0,
    ema: Mapping[str, nn.Module] | None = None,
) -> int:
    """Resume from the checkpoint, if any, and call `step(iteration, progress)` until the budget is used up.

    `step` runs forward, backward and optimizer.step itself and returns the metrics to log: floats, or 0-dimensional
    tensors, which are read only when they are logged, to avoid synchronising with the GPU. Learning rates are set
    here, from each group's initial value. Randomness is seeded from the seed and the first iteration of the run, so
    that a resumed run does not repeat its data.

    Args:
        settings: budgets, folder and seed.
        modules: trained modules by name; loaded from the folder's checkpoint if there is one.
        optimizers: optimizers of the modules' parameters; their moments are restored too.
        step: function that runs one iteration; progress is in [0, 1).
        sample: function that writes sample images to a path, called at intervals and at the end.
        seconds_between_samples: interval of `sample`.
        ema: moving averages to keep in the checkpoint; `step` updates them, see `update_average`.

    Returns:
        The number of completed iterations.

    Raises:
        ValueError: no budget is set, or the folder was started with other settings.
        KeyboardInterrupt: training was interrupted; a checkpoint was written before.
    """
    is_finished(settings, settings.out / CHECKPOINT)
    settings.out.mkdir(parents=True, exist_ok=True)
    ema = ema or {}
    iteration, used = load_checkpoint(settings.out, modules, optimizers, ema)
    torch.manual_seed(data_seed(settings))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
    begun = last_log = last_save = last_sample = time.monotonic()
    sampled_at = -1
    cut_metrics(settings.out / METRICS, iteration)

    def save() -> None:
        seconds = used + time.monotonic() - begun
        save_checkpoint(settings.out, modules, optimizers, ema, iteration, seconds, settings.identity)

    with (settings.out / METRICS).open("a") as log, _saved_on_interrupt(save):
        while True:
            now = time.monotonic()
            progress = _progress(settings, iteration, used + now - begun)
            if progress >= 1:
                break
            factor = learning_rate_factor(progress, iteration)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["initial_lr"] * factor
            metrics = step(iteration, progress)
            iteration += 1
            last = iteration == settings.iterations
            if iteration == 1 or last or now - last_log > SECONDS_BETWEEN_LOGS:
                numbers = {name: round(float(value), 6) for name, value in metrics.items()}
                record = {"iteration": iteration, "seconds": round(used + now - begun, 1), **numbers}
                print(json.dumps(record), flush=True)
                log.write(json.dumps(record) + "\n")
                log.flush()
                last_log = now
            if now - last_save > SECONDS_BETWEEN_CHECKPOINTS:
                save()
                last_save = now
            if sample and now - last_sample > seconds_between_samples:
                sample(settings.out / f"sample-{iteration:06d}.png")
                last_sample, sampled_at = now, iteration
    save()
    if sample and sampled_at != iteration:
        sample(settings.out / f"sample-{iteration:06d}.png")
    return iteration
