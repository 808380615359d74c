"""CPU seconds of the embedded models, one picture at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter

import torch

from countgen.backbones import Backbone
from critics import Critic
from critics.losses import LOSSES

PROMPT = "a photo of five cats"
TARGETS = {"cat": 5}


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median wall-clock time of a piece of work, after one run that does not count."""
    work()
    taken = []
    for _ in range(repeats):
        begun = perf_counter()
        work()
        taken.append(perf_counter() - begun)
    return median(taken)


def generator_row(name: str, backbone: Backbone, critic: Critic, repeats: int) -> str:
    """Markdown row: the prompt, the picture, and the picture with the critic's gradient at its latents."""
    with torch.no_grad():
        embeds = backbone.encode_prompt(PROMPT)
    latents = backbone.initial_latents([0])

    def encode() -> None:
        with torch.no_grad():
            backbone.encode_prompt(PROMPT)

    def forward() -> None:
        with torch.no_grad():
            backbone.render(latents, embeds, [0])

    def forward_and_backward() -> None:
        moved = latents.clone().requires_grad_()
        images = backbone.render(moved, embeds, [0])
        critic.assess(images, TARGETS, LOSSES["margin"]).loss.sum().backward()

    cells = [f"{seconds(work, repeats):.3f}" for work in (encode, forward, forward_and_backward)]
    return f"| {name} | " + " | ".join(cells) + " |"


def table(backbones: dict[str, Backbone], critic: Critic, repeats: int) -> str:
    """Markdown: a row per generator."""
    rows = [generator_row(name, backbone, critic, repeats) for name, backbone in backbones.items()]
    return "\n".join(["| generator | prompt | picture | picture, critic and gradient |", "| --- " * 4 + "|", *rows])


def detector_table(detectors: Sequence[Critic], repeats: int) -> str:
    """Markdown: a row per detector, one picture counted."""
    picture = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    lines = ["| detector | one picture |", "| --- | --- |"]
    for detector in detectors:
        taken = seconds(lambda counted=detector: counted.counts(picture, ["cat"]), repeats)  # type: ignore[misc]
        lines.append(f"| {detector.name} | {taken:.3f} |")
    return "\n".join(lines)
