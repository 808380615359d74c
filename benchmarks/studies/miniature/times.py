"""CPU seconds of the embedded models, one image at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from benchmarks.speed.clock import measure
from benchmarks.studies.markdown import table as markdown_table
from countgen.backbones import Backbone
from critics import Critic
from critics.losses import LOSSES

PROMPT = "a photo of five cats"
TARGETS = {"cat": 5}


def generator_row(name: str, backbone: Backbone, critic: Critic, repeats: int) -> list[str]:
    """Return the cells: the prompt, the image, and the image with the critic's gradient at its latents."""
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
        critic.evaluate(images, TARGETS, LOSSES["margin"]).loss.sum().backward()

    timed = [measure(work, backbone.device, repeats, warm_ups=1) for work in (encode, forward, forward_and_backward)]
    return [name, *(f"{work.seconds:.3f}" for work in timed)]


def table(backbones: dict[str, Backbone], critic: Critic, repeats: int) -> str:
    """Return Markdown: a row for each generator."""
    rows = [generator_row(name, backbone, critic, repeats) for name, backbone in backbones.items()]
    return markdown_table(["generator", "prompt", "image", "image, critic and gradient"], rows)


def detector_table(detectors: Sequence[Critic], repeats: int) -> str:
    """Return Markdown: a row for each detector, one image counted."""
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    rows = []
    for detector in detectors:
        timed = measure(partial(detector.counts, image, ["cat"]), image.device, repeats, warm_ups=1)
        rows.append([detector.name, f"{timed.seconds:.3f}"])
    return markdown_table(["detector", "one image"], rows)
