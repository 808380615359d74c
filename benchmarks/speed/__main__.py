"""Compare our optimisation loop with a bare diffusers loop and with ReNO's loop, on this machine.

The three take turns on the same model, critics, objective and start latents, so that only the loops differ. With
--right-images, whole methods are compared instead: right images per second, and the share of right ones.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch

import countgen
from countgen.benchmarks.evaluation.peak_memory import forget_peak, peak_bytes, release_memory
from countgen.benchmarks.speed import random_weights, right_images
from countgen.benchmarks.speed.loops import LOOPS, Loop, Task
from countgen.benchmarks.speed.right_images import now
from countgen.errors import CountGenError

MODELS = ("miniature", "miniature-pixart", *random_weights.MODELS)
"""The one-step presets."""


@dataclass(frozen=True)
class Turn:
    """What one turn of a loop took.

    Attributes:
        seconds: per iteration.
        peak: bytes, of the kind that `_title` names.
    """

    seconds: float
    peak: int


def take_turn(loop: Loop, task: Task, iterations: int) -> Turn:
    """Start a loop anew and time its iterations; the preparations and the first forward pass are not timed."""
    device = task.backbone.device
    release_memory()
    torch.cuda.empty_cache()
    forget_peak(device)
    candidates = loop(task)
    next(candidates)
    started = now(device)
    for _ in range(iterations):
        next(candidates)
    seconds = (now(device) - started) / iterations
    candidates.close()
    # The memory of CUDA graphs does not show as allocated.
    peak = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else peak_bytes(device)
    return Turn(seconds, peak or 0)


def compare(task: Task, rounds: int, iterations: int) -> dict[str, list[Turn]]:
    """Return one turn of every loop per round; the turns of a warm-up round are left out."""
    turns: dict[str, list[Turn]] = {name: [] for name in LOOPS}
    for _ in range(1 + rounds):
        for name, (loop, _) in LOOPS.items():
            turns[name].append(take_turn(loop, task, iterations))
    return {name: timed for name, (_, *timed) in turns.items()}


def table(turns: dict[str, list[Turn]]) -> list[str]:
    """Return the lines of a Markdown table; a ratio is the median over rounds of a loop's time to ours."""
    lines = [
        "| loop | s per iteration | min-max | ratio to countgen | peak GiB | NFE per iteration |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, own in turns.items():
        seconds = [turn.seconds for turn in own]
        ratio = median(turn.seconds / ours.seconds for turn, ours in zip(own, turns["countgen"], strict=True))
        peak = max(turn.peak for turn in own) / 2**30
        lines.append(
            f"| {name} | {median(seconds):.4f} | {min(seconds):.4f}-{max(seconds):.4f} | {ratio:.2f} | {peak:.2f} | "
            f"{LOOPS[name][1]} |"
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m countgen.benchmarks.speed", description=__doc__)
    parser.add_argument("--model", default="miniature", help=f"{', '.join(MODELS)}; default: %(default)s")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s")
    parser.add_argument(
        "--random-weights",
        action="store_true",
        help="download nothing: build the published architecture, and YOLO11m as its critic",
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each loop; default: %(default)s")
    parser.add_argument("--iterations", type=int, default=3, help="of each turn; default: %(default)s")
    parser.add_argument("--right-images", type=int, metavar="N", help="compare methods on N prompts of the miniatures")
    parser.add_argument("--seed", type=int, default=0, help="first seed of --right-images; default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        if options.right_images is not None:
            print(*_right_images(options), sep="\n")
            return 0
        task = _task(options)
        turns = compare(task, options.rounds, options.iterations)
    except (ValueError, OSError, CountGenError, torch.OutOfMemoryError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(_title(task, options), "", *table(turns), sep="\n")
    return 0


def _right_images(options: argparse.Namespace) -> list[str]:
    """Compare the methods, and return the lines of a title and a table."""
    if options.model not in right_images.MODELS or options.right_images < 1:
        raise ValueError(f"--right-images takes 1 prompt or more, and --model one of {', '.join(right_images.MODELS)}")
    models = countgen.load(options.model, device=options.device)
    totals = right_images.compare(models, options.right_images, options.seed)
    title = (
        f"{options.model}, {options.right_images} prompts, counts 1-{max(right_images.COUNTS)} in turn, seeds from "
        f"{options.seed}, at most {right_images.MOST_EVALUATIONS} evaluations; {models.required_judge.name} judges; "
        f"{options.device}, {torch.get_num_threads()} thread(s)"
    )
    return [title, "", *right_images.table(totals)]


def _task(options: argparse.Namespace) -> Task:
    """Load or build the models."""
    models = random_weights.MODELS if options.random_weights else MODELS
    if options.model not in models:
        raise ValueError(f"--model {options.model!r} is not one of {', '.join(models)}")
    if min(options.rounds, options.iterations) < 1:
        raise ValueError("--rounds and --iterations must be at least 1")
    try:
        device = torch.device(options.device)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"--device {options.device!r} cannot be used: {str(error).splitlines()[0]}") from error
    if options.random_weights:
        return Task(random_weights.build(options.model, device), (random_weights.build_critic(device),))
    loaded = countgen.load(options.model, objects=["apple"], device=device)
    return Task(loaded.backbone, loaded.critics)


def _title(task: Task, options: argparse.Namespace) -> str:
    backbone, on_cuda = task.backbone, task.backbone.device.type == "cuda"
    return (
        f"{backbone.name}{' with random weights' * options.random_weights}, {backbone.width}x{backbone.height}, "
        f"{backbone.dtype}, {', '.join(critic.name for critic in task.critics)}; "
        f"{torch.cuda.get_device_name(backbone.device) if on_cuda else platform.machine()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} thread(s); {options.rounds} rounds of {options.iterations} iterations; peak of the "
        f"{'memory that the CUDA allocator reserved' if on_cuda else 'resident memory of the process'}"
    )


if __name__ == "__main__":
    sys.exit(main())
