"""Bytes that one optimisation iteration needs, per backbone: counted everywhere, and measured beside it on a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmarks.speed_clock import GIB, forget, measure
from benchmarks.speed_models import BuiltModel, build, build_critic
from countgen.backbones.footprint import footprint
from countgen.iteration import EagerIteration, Question
from countgen.prompts import Target
from countgen.verdict import PLAIN

HEADER = (
    "| model | decoder | weights GiB | text encoders | activations, fast | low, at most | peak, fast | low |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def print_table(names: Sequence[str], size: str, device: torch.device) -> None:
    """One line per model and decoder, batch 1, float16, critic not counted.

    The peaks are torch's, of an eager iteration with a critic and without text encoders; a CPU has none, and says so.
    """
    print(HEADER)
    for name in names:
        counted = build(name, size, torch.device("meta"), torch.float16)
        with torch.no_grad():
            embeds = counted.encode()
        peaks = _measured(name, size, device) if device.type == "cuda" else {}
        for draft in (False, True):
            need = footprint(counted.backbone, embeds, draft=draft)
            numbers = [need.weights, need.text_encoders, need.kept, need.kept_low]
            cells = [f"{number / GIB:.2f}" for number in numbers]
            cells += [f"{peaks[draft, memory] / GIB:.2f}" if peaks else "needs a GPU" for memory in ("fast", "low")]
            print(f"| {name} | {'tiny' if draft else 'full'} | {' | '.join(cells)} |", flush=True)


def _measured(name: str, size: str, device: torch.device) -> dict[tuple[bool, str], int]:
    model = build(name, size, device, torch.float16)
    model.free_encoders()
    # Nothing is read of it, so random embeddings of the right shape do.
    counted = build(name, size, torch.device("meta"), torch.float16)
    with torch.no_grad():
        embeds = counted.encode().map(lambda tensor: torch.ones(tensor.shape, dtype=tensor.dtype, device=device))
    question = Question((build_critic(size, device),), (Target("apple", 5),), PLAIN, "margin")
    peaks = {}
    for memory in ("fast", "low"):
        if memory == "low":
            model.backbone.save_memory()
        for draft in (False, True):
            iteration = EagerIteration(model.backbone, embeds, [0], question, draft=draft)
            peaks[draft, memory] = _peak(model, iteration, device)
    return peaks


def _peak(model: BuiltModel, iteration: EagerIteration, device: torch.device) -> int:
    latents = model.backbone.initial_latents([0])

    def step() -> None:
        iteration.look(latents)
        iteration.gradient()

    forget(device)
    return measure(step, device, repeats=1, warm_ups=1).allocated
