"""Right images per second of `auto` and of its peers, on the same prompts and seeds.

The judge counts after the clock has stopped. On a CPU the seconds are those of the process, so that others who use the
machine do not change them.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

import countgen
from countgen.benchmarks.evaluation.statistics import wilson_interval
from countgen.critics.vocabulary import plural
from countgen.methods.noise import NoiseSettings
from countgen.methods.objective import PLAIN_VIEW, Objective
from countgen.miniature.world import OBJECT_NAMES
from countgen.models import Models
from countgen.prompts import Target
from countgen.prompts.number_words import number_word

MODELS = ("miniature", "miniature-pixart")
MOST_EVALUATIONS = 60
DEMANDS = (0.5, 0.8, 0.9, 0.95, 0.98)
"""Values of `sure`."""
COUNTS = range(1, 13)
ITERATIONS = 20
RENO = NoiseSettings(
    num_optimization_steps=ITERATIONS,
    learning_rate=5.0,
    optimizer="sgd",
    loss="d2d",
    prior_weight=0.01,
    max_grad_norm=0.1,
    views=PLAIN_VIEW,
)
"""ReNO's published values (Eyring et al. 2024)."""


@dataclass(frozen=True)
class Case:
    """A prompt with one target, and the first seed."""

    prompt: str
    target: Target
    seed: int


Arm = Callable[[Models, Case], Tensor]
"""Function that returns an image, RGB float (3, H, W) in [0, 1]."""


def cases(number: int, first_seed: int) -> Iterator[Case]:
    """Yield prompts of `COUNTS` in turn, with a random object of the embedded models each."""
    generator = random.Random(first_seed)
    for index in range(number):
        target = Target(generator.choice(OBJECT_NAMES), COUNTS[index % len(COUNTS)])
        objects = plural(target.object_name) if target.target_count > 1 else target.object_name
        yield Case(f"a photo of {number_word(target.target_count)} {objects}", target, first_seed + 1000 * index)


def auto(models: Models, case: Case, *, sure: float) -> Tensor:
    """Generate with the default method."""
    return countgen.generate(case.prompt, models, seed=case.seed, sure=sure, max_evaluations=MOST_EVALUATIONS).image


@torch.no_grad()
def best_of_n(models: Models, case: Case, *, critics: int) -> Tensor:
    """Return the first image that the first critics count right, or the nearest."""
    backbone, (name, wanted) = models.backbone, (case.target.object_name, case.target.target_count)
    embeds, least = backbone.encode_prompt(case.prompt), math.inf
    for seed in range(case.seed, case.seed + MOST_EVALUATIONS):
        image = backbone.render(backbone.initial_latents([seed]), embeds, [seed])
        error = sum(abs(int(critic.counts(image, [name])[0, 0]) - wanted) for critic in models.critics[:critics])
        if error < least:
            least, nearest = error, image[0]
        if error == 0:
            break
    return nearest


@torch.no_grad()
def image_select(models: Models, case: Case) -> Tensor:
    """Return the image with the lowest loss of as many as ReNO's loop has iterations, as its option `imageselect`."""
    backbone, embeds = models.backbone, models.backbone.encode_prompt(case.prompt)
    objective = Objective(models.critics, (case.target,), PLAIN_VIEW, RENO.loss)
    least = math.inf
    for seed in range(case.seed, case.seed + ITERATIONS):
        images = backbone.render(backbone.initial_latents([seed]), embeds, [seed])
        loss = float(objective.evaluate(images).loss)
        if loss < least:
            least, nearest = loss, images[0]
    return nearest


def reno(models: Models, case: Case) -> Tensor:
    """Generate with `noise` at `RENO`, on one seed, until the critics count about right on the plain image."""
    evaluations = 3 * ITERATIONS - 2
    return countgen.generate(
        case.prompt, models, method="noise", settings=RENO, seed=case.seed, sure=0.25, max_evaluations=evaluations
    ).image


ARMS: dict[str, Arm] = {
    **{f"auto, sure={sure:g}": partial(auto, sure=sure) for sure in DEMANDS},
    "best of N, one critic": partial(best_of_n, critics=1),
    "best of N, two critics": partial(best_of_n, critics=2),
    "ReNO's imageselect": image_select,
    "ReNO's loop": reno,
}


@dataclass
class Total:
    """What an arm made of its cases."""

    seconds: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)


def compare(models: Models, number: int, first_seed: int) -> dict[str, Total]:
    """Return the totals of every arm; the arms take turns on each case, after a warm-up."""
    judge, models = models.required_judge, replace(models, judge=None)
    clock = time.process_time if models.backbone.device.type == "cpu" else _synchronized
    totals = {name: Total() for name in ARMS}
    for index, case in enumerate([Case("a photo of two apples", Target("apple", 2), 0), *cases(number, first_seed)]):
        for name, arm in ARMS.items():
            started = clock()
            image = arm(models, case)
            seconds = clock() - started
            right = int(judge.counts(image[None], [case.target.object_name])[0, 0]) == case.target.target_count
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


def _synchronized() -> float:
    torch.accelerator.synchronize()
    return time.perf_counter()
