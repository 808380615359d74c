"""Compare, on a CPU, the miniature's optimisation step against a bare torch loop, and where its time goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from statistics import quantiles
from time import perf_counter, process_time
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import countgen
from countgen.benchmarks.speed.bare_loop import bare_loop
from countgen.benchmarks.speed.table import Bench, Row
from countgen.methods.forward_backward import eager
from countgen.methods.problem import Problem
from countgen.methods.refinement import RefinementSettings, refine
from countgen.methods.step import Budget, Step
from countgen.models import Models
from countgen.prompts import Target

PROMPT = "a photo of apples"
TARGETS = (Target("apple", 100),)
"""More than the image can hold, so that no step ends the run."""
OPERATIONS = 15
"""Rows of the profile."""


def compare(bench: Bench, steps: int = 24) -> float:
    """Time our step and the bare loop's in turns, and add their rows.

    Returns:
        Our step's time over the bare loop's, a median of pairs.
    """
    models = countgen.load("miniature", device=bench.device)
    ours, bare = refine_steps(models), bare_loop(models, PROMPT, TARGETS[0])
    return _in_turns(bench, ("bare torch loop", bare), ("refine", lambda: next(ours)), steps)


def layouts(bench: Bench, steps: int = 24) -> dict[str, float]:
    """The same for memory layouts and compiled networks, against the step as it is; they stay off unless they pay.

    Returns:
        The time over the plain step's, by variant.
    """
    changes: dict[str, Callable[[Models], object]] = {"channels_last": _channels_last, "torch.compile": _compile}
    ratios = {}
    for what, change in changes.items():
        plain, changed = (countgen.load("miniature", device=bench.device) for _ in range(2))
        change(changed)
        first, second = refine_steps(plain), refine_steps(changed)
        pair = ("refine", lambda steps=first: next(steps)), (what, lambda steps=second: next(steps))
        try:
            ratios[what] = _in_turns(bench, *pair, steps)
        except (RuntimeError, AssertionError) as error:
            bench.add(Row("miniature", what, note=f"failed: {str(error).splitlines()[0][:200]}"))
    return ratios


def threads(bench: Bench, number: int, steps: int = 24) -> float:
    """The same for several threads against one, by the clock on the wall.

    Returns:
        The time over that of one thread.
    """
    ours = refine_steps(countgen.load("miniature", device=bench.device))

    def on(count: int) -> Callable[[], object]:
        def call() -> None:
            torch.set_num_threads(count)
            next(ours)

        return call

    before = torch.get_num_threads()
    try:
        return _in_turns(bench, ("refine, 1 thread", on(1)), (f"refine, {number} threads", on(number)), steps)
    finally:
        torch.set_num_threads(before)


def operations(call: Callable[[], object]) -> int:
    """How many operations of torch a call runs, its backward included."""
    with _Counting() as mode:
        call()
    return mode.number


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        self.number += 1
        return func(*args, **(kwargs or {}))


def profile(device: torch.device, steps: int = 5) -> str:
    """Where a step's time goes: by part, and by operation of torch, the longest first."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    models = countgen.load("miniature", device=device)
    parts = _parts(models, steps)
    whole = sum(parts.values())
    lines = ["| part of a step | ms | % |", "| --- | --- | --- |"]
    lines += [f"| {part} | {1e3 * spent:.1f} | {100 * spent / whole:.0f} |" for part, spent in parts.items()]
    ours = refine_steps(models)
    next(ours)
    with record(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(steps):
            next(ours)
    averages = sorted(profiler.key_averages(), key=lambda row: row.self_cpu_time_total, reverse=True)
    total = sum(row.self_cpu_time_total for row in averages)
    lines += ["", "| operation | calls a step | ms a step | % |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {row.key} | {row.count / steps:.0f} | {row.self_cpu_time_total / steps / 1e3:.2f} | "
        f"{100 * row.self_cpu_time_total / total:.1f} |"
        for row in averages[:OPERATIONS]
    ]
    return "\n".join(lines)


def refine_steps(models: Models) -> Iterator[Step]:
    """Return endless steps of the library's loop."""
    settings = RefinementSettings(num_optimization_steps=10**6)
    return refine(_problem(models), models.backbone.initial_latents([0]), [0], Budget(), settings)


def _problem(models: Models) -> Problem:
    with torch.no_grad():
        embeds = models.backbone.encode_prompt(PROMPT)
    return Problem(models.backbone, models.critics, TARGETS, embeds)


def _in_turns(
    bench: Bench, base: tuple[str, Callable[[], object]], other: tuple[str, Callable[[], object]], steps: int
) -> float:
    """Rows of both; machines slow down and recover, so that only neighbours are compared."""
    clock = perf_counter if "thread" in base[0] else _clock()
    pairs: list[tuple[float, ...]] = []
    for _ in range(2 + steps):
        times = []
        # Each first in turn: what runs second finds the caches warm.
        for _, call in (base, other) if len(pairs) % 2 else (other, base):
            started = clock()
            call()
            times.append(clock() - started)
        pairs.append(tuple(times if len(pairs) % 2 else reversed(times)))
    pairs = pairs[2:]
    low, ratio, high = quantiles([b / a for a, b in pairs], n=4)
    for k, (what, _) in enumerate((base, other)):
        note = f"{ratio:.3f} times {base[0]}, quartiles {low:.3f} to {high:.3f} of {steps} pairs" if k else ""
        milliseconds = 1e3 * quantiles([pair[k] for pair in pairs], n=4)[1]
        bench.add(Row("miniature", what, milliseconds=milliseconds, note=note))
    return ratio


def _clock() -> Callable[[], float]:
    """Return the processor's time on one thread, which other programs do not disturb."""
    return process_time if torch.get_num_threads() == 1 else perf_counter


def _networks(models: Models) -> dict[str, nn.Module]:
    """The U-Net, the decoder, and every critic's network."""
    found: dict[str, nn.Module] = {"U-Net": models.backbone.denoiser, "decoder": models.backbone.pipeline.vae.decoder}
    for critic in models.critics:
        found[critic.name] = next(value for value in vars(critic).values() if isinstance(value, nn.Module))
    return found


def _channels_last(models: Models) -> None:
    for network in _networks(models).values():
        network.to(memory_format=torch.channels_last)


def _compile(models: Models) -> None:
    for name, network in _networks(models).items():
        if name in ("U-Net", "decoder"):
            network.compile()


def _parts(models: Models, steps: int) -> dict[str, float]:
    """Return the seconds of a step, by part."""
    clock = _clock()
    problem, settings = _problem(models), RefinementSettings()
    passes = eager(models.backbone, problem.embeds, [0], problem.objective(settings.views, settings.loss))
    latents: Tensor = models.backbone.initial_latents([0])
    spent: dict[str, float] = {}
    handles = []
    for name, network in _networks(models).items():
        started: list[float] = []

        def before(*_: object, started: list[float] = started) -> None:
            started.append(clock())

        def after(*_: object, name: str = name, started: list[float] = started) -> None:
            spent[name] = spent.get(name, 0.0) + clock() - started.pop()

        handles += [network.register_forward_pre_hook(before), network.register_forward_hook(after)]
    ours = refine_steps(models)
    passes.forward(latents)
    next(ours)
    spent.clear()
    forwards = backwards = whole = 0.0
    for _ in range(steps):
        # In turns with the library's own steps, since machines slow down and recover.
        times = [clock()]
        for call in (lambda: passes.forward(latents), passes.backward, lambda: next(ours)):
            call()
            times.append(clock())
        forward, backward, stepped = (after - before for before, after in pairwise(times))
        forwards, backwards, whole = forwards + forward, backwards + backward, whole + stepped
    for handle in handles:
        handle.remove()
    networks = {name: seconds / 2 for name, seconds in spent.items()}  # each has run in both
    rest = {
        "candidates, losses, scheduler": forwards - sum(networks.values()),
        "backward": backwards,
        # Timed on other steps than the passes: below 0 it is their noise.
        "prior, clip, Adam, records": whole - forwards - backwards,
    }
    return {part: seconds / steps for part, seconds in {**networks, **rest}.items()}
