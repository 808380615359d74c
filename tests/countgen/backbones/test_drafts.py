"""Drafts of a tiny decoder carry the gradient and rank seeds; what is shown and counted is the VAE's."""

from __future__ import annotations

import pytest
import torch

import countgen
from countgen import backbones
from countgen.backbones import Backbone
from countgen.methods.noise import NoiseSettings, noise
from countgen.methods.problem import Problem
from countgen.methods.refinement import refine
from countgen.methods.seeds import best_of, evaluate_seeds
from countgen.methods.step import Budget
from countgen.prompts import Target
from tests.countgen.backbones.conftest import tiny_decoder

PROMPT = "a photo of seven apples"


@pytest.fixture
def drafting() -> Backbone:
    """Return the miniature with an untrained tiny decoder, whose drafts show no objects."""
    backbone = backbones.load("miniature")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone.tiny_vae = tiny_decoder().eval().requires_grad_(False)
    return backbone


def test_gradients_use_the_draft_and_steps_show_images_of_the_vae(drafting: Backbone, models: countgen.Models) -> None:
    with torch.no_grad():
        embeds = drafting.encode_prompt(PROMPT)
    latents = drafting.initial_latents([9])  # counts wrong until the last of four steps
    settings = NoiseSettings(num_optimization_steps=4)
    budget = Budget()
    problem = Problem(drafting, models.critics, (Target("apple", 7),), embeds)
    steps = list(refine(problem, latents, [9], budget, settings))

    assert (steps[0].index, steps[-1].index) == (0, 3)
    # Four evaluations of drafts, three of them with gradient, and the images that the VAE decoded.
    assert budget.evaluations == 4 + 2 * 3 + len(steps)
    for step in steps:
        with torch.no_grad():
            rendered = drafting.render(step.latents[None], embeds)[0]
            drafted = drafting.render(step.latents[None], embeds, draft=True)[0]
        torch.testing.assert_close(step.image, rendered)
        assert not torch.allclose(step.image, drafted, atol=0.01)
        assert step.counts == tuple(models.critics[0].counts(rendered[None], ["apple"])[0].tolist())
    assert not torch.equal(steps[-1].latents, latents[0])


def test_a_search_evaluates_drafts_and_shows_what_the_vae_decodes(drafting: Backbone, models: countgen.Models) -> None:
    """Drafts of noise show no apples: the most probable one is decoded, and drafts that are as good as images are."""
    with torch.no_grad():
        embeds = drafting.encode_prompt(PROMPT)
    problem = Problem(drafting, models.critics, (Target("apple", 7),), embeds)
    steps = evaluate_seeds(problem, range(5), budget := Budget())
    assert [step.draft for step in steps].count(False) == 1
    assert budget.evaluations == 5
    (shown,) = best_of(steps)
    torch.testing.assert_close(shown.image, drafting.render(shown.latents[None], embeds)[0].detach())
    assert shown.counts == tuple(models.critics[0].counts(shown.image[None], ["apple"])[0].tolist())

    drafting.tiny_vae = drafting.pipeline.vae
    by_drafts = evaluate_seeds(problem, range(12), Budget())
    drafting.tiny_vae = None
    by_images = evaluate_seeds(problem, range(12), Budget())
    assert [step.confirmed for step in by_drafts] == [step.confirmed for step in by_images]
    assert any(step.draft for step in by_drafts)
    assert not any(step.draft for step in by_images)


@pytest.mark.parametrize("limit", [1, 8])
def test_evaluations_with_drafts_stay_within_the_budget(
    limit: int, drafting: Backbone, models: countgen.Models
) -> None:
    with torch.no_grad():
        embeds = drafting.encode_prompt(PROMPT)
    budget = Budget(max_evaluations=limit)
    problem = Problem(drafting, models.critics, (Target("apple", 40),), embeds)
    steps = list(noise(problem, 3, budget, NoiseSettings()))
    assert steps[-1].evaluations == budget.evaluations == limit
