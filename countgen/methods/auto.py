"""Search a few seeds in a batch, then refine the nearest by gradient; repeat."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from countgen.backbones import Backbone, PromptEmbeds
from countgen.backbones.memory_check import check
from countgen.methods.forward_backward import Question
from countgen.methods.refinement import NoiseSettings, refine
from countgen.methods.search import Accept, SearchSettings, confirmed, draw, worth_showing
from countgen.methods.step import COST_WITH_GRADIENT, Budget, Step
from countgen.prompts import Target
from critics.base import Critic

MOST_WAITING = 24
"""Candidates kept for a later refinement; on a long run better ones keep coming."""


@dataclass(frozen=True)
class AutoSettings:
    """How search and refinement share the work. The defaults are those that `benchmarks.tuning` chose.

    Attributes:
        search: how seeds are drawn.
        noise: how the nearest are refined.
        num_searches: batches drawn before each refinement.
        num_refined: of the nearest candidates, refined together.
    """

    search: SearchSettings = field(default_factory=SearchSettings)
    noise: NoiseSettings = field(default_factory=lambda: NoiseSettings(num_optimization_steps=8))
    num_searches: int = 2
    num_refined: int = 3


def search_and_refine(
    backbone: Backbone,
    critics: Sequence[Critic],
    embeds: PromptEmbeds,
    targets: Sequence[Target],
    seed: int,
    budget: Budget,
    settings: AutoSettings | None = None,
    accept: Accept = confirmed,
) -> Iterator[Step]:
    """Alternate between drawing seeds and refining the nearest, until one is accepted or the budget is spent.

    Raises:
        DoesNotFitError: the device's memory will not do, found before anything is drawn.
        NonFiniteLossError: the loss is not a number; the message names the step.
    """
    settings = settings or AutoSettings()
    question = Question(tuple(critics), tuple(targets), settings.noise.views, settings.noise.loss)
    check(backbone, embeds, settings.num_refined, question, draft=backbone.tiny_vae is not None)
    waiting: list[Step] = []
    index = 0
    for number, seeds in enumerate(settings.search.batches(seed), start=1):
        affordable = seeds[: budget.evaluations_left]
        drawn = draw(backbone, critics, embeds, targets, affordable, budget, settings.search, index)
        for step in worth_showing(drawn):
            yield step
            if accept(step):
                return
        if not budget.left:
            return
        index += 1
        # One that is confirmed and yet not accepted has nothing left to refine; one without a finite loss no gradient.
        nearest = (s for s in (*waiting, *drawn) if not s.confirmed and s.rank > -math.inf)
        waiting = sorted(nearest, key=lambda s: s.rank, reverse=True)
        if number % settings.num_searches:
            continue
        # Where not even a look, its gradient and the next look can be paid for, seeds are the better buy.
        number_refined = min(settings.num_refined, budget.evaluations_left // (COST_WITH_GRADIENT + 1))
        chosen, waiting = waiting[:number_refined], waiting[number_refined:MOST_WAITING]
        if not chosen:
            continue
        latents = torch.stack([step.latents for step in chosen])
        chosen_seeds = [step.seed for step in chosen]
        for step in refine(backbone, critics, embeds, targets, latents, chosen_seeds, budget, settings.noise, index):
            yield step
            if accept(step) or not budget.left:
                return
            index = step.index + 1
