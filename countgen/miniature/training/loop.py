"""The one training loop that every stage shares: budgets, learning rate, log, samples, resume."""

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
    checkpoint_notes,
    cut_metrics,
    load_checkpoint,
    progress_of,
    refuse_other,
    save_checkpoint,
)

METRICS = "metrics.jsonl"
SECONDS_BETWEEN_CHECKPOINTS = 60.0
SECONDS_BETWEEN_LOGS = 5.0
RANDOM = Path("random")
"""As a stage's `init`: fresh weights."""


@dataclass(frozen=True)
class StageSettings:
    """What every stage takes.

    Attributes:
        out: folder of the run; created, or continued where it holds a checkpoint.
        stage: which one; a folder belongs to one stage, one seed, one start and one set of data.
        device: "cuda" or "cpu".
        seconds: wall-clock budget of the training steps over all runs in this folder, or None.
        iterations: budget in iterations, or None. At least one budget is set; the nearer one rules.
        batch_size: images a step; None takes the stage's own.
        seed: of weights, data and noise.
        init: file or folder with the weights to start from, or `RANDOM`; None takes the stage's own.
        data: folder of what an earlier stage made (pairs, a generator); None takes the stage's own.
        learning_rate: None takes the stage's own.
        number: how many samples to make, for the stages that make samples; None takes the stage's own.
        compile: whether to run networks through torch.compile (CUDA only; minutes to start).
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
    def asked(self) -> dict[str, str]:
        """What a run's folder was begun with; a checkpoint of anything else is not continued."""
        return {"stage": self.stage, "seed": str(self.seed), "init": str(self.init), "data": str(self.data)}

    @property
    def fresh(self) -> bool:
        """Whether random weights were asked for."""
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
            raise ValueError(f"device {self.device!r} was asked for and there is no CUDA GPU; use cpu")


def learning_rate_factor(progress: float, iteration: int, *, warmup: int = 100, floor: float = 0.02) -> float:
    """Linear warm-up over the first iterations, then half a cosine down to `floor`, by progress in [0, 1]."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    return min(1.0, (iteration + 1) / warmup) * (floor + (1 - floor) * cosine)


def adamw(groups: Sequence[tuple[nn.Module, float]], betas: tuple[float, float] = (0.9, 0.99)) -> Optimizer:
    """AdamW over modules, each with its learning rate."""
    parameters = [{"params": list(module.parameters()), "lr": rate} for module, rate in groups]
    return torch.optim.AdamW(parameters, betas=betas, weight_decay=0.01)


def autocast(device: str) -> AbstractContextManager[object]:
    """bfloat16 autocast on CUDA; on a CPU, full precision."""
    return torch.autocast("cuda" if device.startswith("cuda") else "cpu", torch.bfloat16, device.startswith("cuda"))


def update_average(average: nn.Module, module: nn.Module, iteration: int, decay: float = 0.999) -> None:
    """Move an exponential moving average one step; young averages move faster, (1 + i) / (10 + i) at iteration i."""
    decay = min(decay, (1 + iteration) / (10 + iteration))
    with torch.no_grad():
        floats = [(a, b) for a, b in zip(average.parameters(), module.parameters(), strict=True)]
        torch._foreach_lerp_([a for a, _ in floats], [b.detach() for _, b in floats], 1 - decay)
        for a, b in zip(average.buffers(), module.buffers(), strict=True):
            a.copy_(b)


def is_finished(settings: StageSettings, product: Path) -> bool:
    """Whether nothing is left to do: the budget is used up and the product is there. To be asked before any work.

    Raises:
        ValueError: no budget is set, or the folder was begun with something else.
    """
    if settings.seconds is None and settings.iterations is None:
        raise ValueError("a stage needs a budget: give --seconds, --iterations or both")
    notes = checkpoint_notes(settings.out)
    if not notes:
        return False
    refuse_other(settings.asked, notes, settings.out)
    iteration, used = progress_of(settings.out)
    finished = _progress(settings, iteration, used) >= 1 and product.exists()
    if finished:
        print(
            f"{settings.out} is finished: {iteration} iterations in {used:.0f} s; a larger budget goes on", flush=True
        )
    return finished


def _progress(settings: StageSettings, iteration: int, used: float) -> float:
    return max(
        used / settings.seconds if settings.seconds else 0.0,
        iteration / settings.iterations if settings.iterations else 0.0,
    )


def data_seed(settings: StageSettings) -> int:
    """A seed of what comes next in this run's folder: a resumed run does not repeat the data it has seen."""
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
    """Call `step(iteration, progress)` until the budget is used up; log, checkpoint and resume on the way.

    `step` runs forward, backward and optimizer.step itself, and answers the metrics to log: floats,
    or 0-dimensional tensors, which are read only when they are logged so that the GPU is not made to
    wait. Learning rates are set here, from each group's initial value. Randomness is seeded from the
    seed and the iteration it starts at, so a resumed run does not repeat the data it has seen.

    Args:
        settings: budgets, folder, seed.
        modules: what is trained, by name; loaded from the folder's checkpoint where there is one.
        optimizers: over the modules' parameters; their moments are resumed too.
        step: one iteration; progress is in [0, 1).
        sample: writes a picture to the path given, every so often and at the end.
        seconds_between_samples: for `sample`.
        ema: averages to keep in the checkpoint; `step` moves them, see `update_average`.

    Returns:
        The iteration reached.

    Raises:
        ValueError: no budget is set, or the folder was begun with something else.
        KeyboardInterrupt: after a checkpoint was written.
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
        save_checkpoint(settings.out, modules, optimizers, ema, iteration, seconds, settings.asked)

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
