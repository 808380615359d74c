"""What the embedded generators draw, without any optimisation, counted by every embedded detector."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.evaluation.statistics import rate
from benchmarks.studies.cases import Case
from countgen.backbones import Backbone
from countgen.miniature.world import HELD_OUT_OBJECTS, HELD_OUT_PAIRS, OBJECT_NAMES
from critics import Critic

COUNTS = range(1, 16)
GROUPS = (("1-5", 1, 5), ("6-10", 6, 10), ("11-15", 11, 15), ("all", 1, 15))
MORE_STEPS = (2, 3, 4)
"""Numbers of steps that are measured beside one step."""


@dataclass(frozen=True)
class Sample:
    """One plain image.

    Attributes:
        generator: what drew it, with its number of steps.
        object_name, target_count: asked for.
        counts: what each detector counts of that object, by the detector's short name.
    """

    generator: str
    object_name: str
    target_count: int
    counts: dict[str, int]


@torch.no_grad()
def draw(backbone: Backbone, cases: Sequence[Case]) -> list[tuple[Case, Tensor]]:
    """Plain images (3, H, W) of cases; those of one prompt are drawn together."""
    drawn = []
    for prompt, same in itertools.groupby(sorted(cases, key=lambda case: case.prompt), lambda case: case.prompt):
        together = list(same)
        seeds = [case.seed for case in together]
        images = backbone.render(backbone.initial_latents(seeds), backbone.encode_prompt(prompt), seeds)
        drawn += list(zip(together, images, strict=True))
    return drawn


def samples(name: str, backbone: Backbone, cases: Sequence[Case], detectors: Sequence[Critic]) -> list[Sample]:
    """Draw cases of one object each and count them with every detector."""
    found = []
    for case, image in draw(backbone, cases):
        (target,) = case.targets
        counts = {d.name: int(d.counts(image[None], [target.object_name])[0, 0]) for d in detectors}
        found.append(Sample(name, target.object_name, target.target_count, counts))
    return found


def share(hits: Sequence[bool]) -> str:
    """Percentage, without its interval."""
    return f"{100 * np.mean(hits):.0f}" if hits else "-"


def _right(chosen: Sequence[Sample], judge: str) -> list[bool]:
    return [s.counts[judge] == s.target_count for s in chosen]


def count_table(found: Sequence[Sample], judge: str) -> str:
    """Markdown: exact accuracy by the judge, a row per count and per group of counts, a column per generator."""
    generators = list(dict.fromkeys(s.generator for s in found))
    lines = ["| objects | " + " | ".join(generators) + " |", "| --- " * (len(generators) + 1) + "|"]
    rows = [(str(count), count, count) for count in COUNTS] + [(f"**{name}**", a, b) for name, a, b in GROUPS]
    by_generator = [[s for s in found if s.generator == name] for name in generators]
    for name, low, high in rows:
        hits = [_right([s for s in mine if low <= s.target_count <= high], judge) for mine in by_generator]
        cells = [share(mine) if low == high else rate(mine) for mine in hits]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    errors = [np.mean([abs(s.counts[judge] - s.target_count) for s in mine]) for mine in by_generator]
    lines.append("| mean error, objects | " + " | ".join(f"{error:.2f}" for error in errors) + " |")
    lines.append("| n | " + " | ".join(str(len(mine)) for mine in by_generator) + " |")
    return "\n".join(lines)


def object_table(found: Sequence[Sample], judge: str, generators: Sequence[str]) -> str:
    """Markdown: exact accuracy by the judge over all counts, a row per object, a column per generator."""
    lines = [
        "| object | " + " | ".join(generators) + " | never counted in a training caption |",
        "| --- " * (len(generators) + 2) + "|",
    ]
    for name in OBJECT_NAMES:
        mine = [_right([s for s in found if (s.object_name, s.generator) == (name, g)], judge) for g in generators]
        cells = [share(hits) for hits in mine]
        pairs = [str(count) for pair, count in sorted(HELD_OUT_PAIRS) if pair == name]
        never = "at any count" if name in HELD_OUT_OBJECTS else ", ".join(pairs)
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {never} |")
    return "\n".join(lines)


def agreement_table(found: Sequence[Sample], detectors: Sequence[str], generators: Sequence[str]) -> str:
    """Markdown: how often two detectors count the same number of the object asked for."""
    lines = ["| detectors | " + " | ".join(generators) + " |", "| --- " * (len(generators) + 1) + "|"]
    for one, other in itertools.combinations(detectors, 2):
        same = [[s.counts[one] == s.counts[other] for s in found if s.generator == g] for g in generators]
        lines.append(f"| {one}, {other} | " + " | ".join(rate(hits) for hits in same) + " |")
    return "\n".join(lines)
