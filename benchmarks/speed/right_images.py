"""Right images per second of `auto` and of its peers, on the same prompts and seeds.

The judge counts after the clock has stopped. On a CPU the seconds are those of the process, so that others who use the
machine do not change them.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import torch

import countgen
from countgen.benchmarks.evaluation.statistics import wilson_interval
from countgen.methods.best_of_n import BestOfNSettings
from countgen.methods.step import COST_WITH_GRADIENT
from countgen.miniature.world import OBJECT_NAMES
from countgen.models import Models
from countgen.options import Options
from countgen.prompts import Target
from countgen.prompts.number_words import number_word
from countgen.prompts.plurals import counted

MODELS = ("miniature", "miniature-pixart")
MOST_EVALUATIONS = 60
DEMANDS = (0.5, 0.8, 0.9, 0.95, 0.98)
"""Values of `sure`."""
PRICES = (10, 25, 50, 100, 200)
"""Values of `worth`."""
COUNTS = range(1, 13)
ITERATIONS = 20
"""Iterations of ReNO's loop, and seeds of its `imageselect`."""


def cases(number: int, first_seed: int) -> Iterator[tuple[str, Target, int]]:
    """Yield prompts of `COUNTS` in turn, each with its target, a random object of the embedded models, and a seed."""
    generator = random.Random(first_seed)
    for index in range(number):
        target = Target(generator.choice(OBJECT_NAMES), COUNTS[index % len(COUNTS)])
        objects = counted(target.object_name, target.target_count)
        yield f"a photo of {number_word(target.target_count)} {objects}", target, first_seed + 1000 * index


_GIVEN = Options(max_evaluations=MOST_EVALUATIONS, worth=math.inf)
ARMS = {
    **{f"auto, sure={sure:g}": replace(_GIVEN, sure=sure) for sure in DEMANDS},
    **{f"auto, worth={worth:g}": replace(_GIVEN, worth=worth) for worth in PRICES},
    "best of N, one critic": replace(_GIVEN, method="best_of_n"),
    "best of N, two critics": replace(_GIVEN, method="best_of_n", settings=BestOfNSettings(num_critics=2)),
    "ReNO's imageselect": replace(_GIVEN, method="image_select", max_evaluations=ITERATIONS),
    "ReNO's loop": replace(_GIVEN, method="reno", max_evaluations=COST_WITH_GRADIENT * ITERATIONS),
}
"""Options of each arm."""


@dataclass
class Total:
    """What an arm made of its cases."""

    seconds: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)


def compare(models: Models, number: int, first_seed: int) -> dict[str, Total]:
    """Return the totals of every arm; the arms take turns on each case, after a warm-up."""
    judge, models = models.required_judge, replace(models, judge=None)
    device = models.backbone.device
    clock = time.process_time if device.type == "cpu" else partial(now, device)
    totals = {name: Total() for name in ARMS}
    warm_up = ("a photo of two apples", Target("apple", 2), 0)
    for index, (prompt, target, seed) in enumerate([warm_up, *cases(number, first_seed)]):
        for name, options in ARMS.items():
            started = clock()
            image = countgen.Run(prompt, models, options, seed=seed).finish().image
            seconds = clock() - started
            right = int(judge.counts(image[None], [target.object_name])[0, 0]) == target.target_count
            if index:
                totals[name].seconds.append(seconds)
                totals[name].right.append(right)
    return totals


def table(totals: dict[str, Total]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = ["| arm | right, % | seconds per image | right images per second |", "| --- | --- | --- | --- |"]
    for name, total in totals.items():
        right, number, seconds = sum(total.right), len(total.right), sum(total.seconds)
        low, high = wilson_interval(right, number)
        share = f"{100 * right / number:.0f} [{100 * low:.0f}, {100 * high:.0f}]"
        lines.append(f"| {name} | {share} | {seconds / number:.3f} | {right / seconds:.2f} |")
    return lines


def now(device: torch.device) -> float:
    """Return the time in seconds when a device has finished what it was asked to compute."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()
