"""Search, noise and auto: what they yield, where they stop, and that gradients do their part."""

import math
from dataclasses import replace
from itertools import islice

import pytest
import torch

from countgen.methods.auto import AutoSettings, auto
from countgen.methods.lmn import LatentModifier, LMNSettings
from countgen.methods.noise import NoiseSettings, noise
from countgen.methods.problem import Problem, confirmed
from countgen.methods.refinement import DirectLatents, latent_prior, refine
from countgen.methods.search import search
from countgen.methods.seeds import SEED_STRIDE, SearchSettings, searched
from countgen.methods.step import Budget, Step
from countgen.prompts import Target


@pytest.fixture(scope="module")
def embeds(models):
    with torch.no_grad():
        return models.backbone.encode_prompt("a photo of seven apples")


def never(step: Step) -> bool:
    return False


@pytest.fixture(scope="module")
def problem(models, embeds):
    """A problem of so many apples, for the prompt that asks for seven."""

    def of(target_count, accept=never):
        return Problem(models.backbone, models.critics, (Target("apple", target_count),), embeds, accept)

    return of


def test_latent_prior_has_its_closed_form_in_float32_also_of_half_latents():
    latents = torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(1)).half()
    norm = latents.double().flatten(1).norm(dim=1)
    expected = norm**2 / 2 - (4 * 64 * 64 - 1) * norm.log()
    torch.testing.assert_close(latent_prior(latents), expected.float(), rtol=1e-5, atol=0)


def test_search_never_draws_a_seed_twice_and_counts_its_evaluations(models, problem):
    steps = list(search(problem(7), 5, Budget(max_evaluations=5), SearchSettings()))
    assert [(step.index, step.evaluations) for step in steps] == [(k, k + 1) for k in range(5)]
    assert [step.seed for step in steps] == [5 + k * SEED_STRIDE for k in range(5)]
    batches = list(searched(problem(7), 5, Budget(max_evaluations=9), SearchSettings(batch_size=4)))
    assert [len(batch) for batch in batches] == [2, 4, 3]
    assert [step.seed for batch in batches for step in batch] == [5 + k * SEED_STRIDE for k in range(9)]


def test_search_stops_at_the_first_confirmed_candidate(models, problem):
    steps = list(search(problem(7, confirmed), 0, Budget(max_evaluations=200), SearchSettings()))
    assert steps[-1].confirmed
    assert steps[-1].counts == (7,)
    assert not any(step.confirmed for step in steps[:-1])


STARTS = [
    (NoiseSettings(num_optimization_steps=5), DirectLatents),
    (LMNSettings(num_optimization_steps=5), LatentModifier),
]


@pytest.mark.parametrize(("settings", "start"), STARTS)
def test_refine_starts_at_its_input_leaves_it_alone_and_lowers_the_loss(models, problem, settings, start):
    seeds = [11, 12]
    latents = models.backbone.initial_latents(seeds)
    original = latents.clone()
    steps = list(refine(problem(11), latents, seeds, Budget(), settings, start))
    assert torch.equal(latents, original)
    assert torch.equal(steps[0].latents, original[seeds.index(steps[0].seed)])
    assert steps[-1].confirmed or min(step.loss for step in steps[1:]) < steps[0].loss
    assert [step.index for step in steps] == list(range(len(steps)))
    assert steps[0].evaluations == len(seeds)


@pytest.mark.parametrize("original_share", [0, 0.2, 0.9])
def test_the_network_starts_with_the_weighted_mean_of_the_noise_and_the_modified_noise(original_share):
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    start = LatentModifier(noise, original_share)
    with torch.no_grad():
        start.bias += 1
    # Modified is noise + 1, so the mean has moved by the modified's share.
    torch.testing.assert_close(start(), noise + (1 - original_share))


@pytest.mark.parametrize(("settings", "start"), STARTS)
def test_refine_moves_a_batch_as_it_moves_singles(models, problem, settings, start):
    settings, seeds = replace(settings, num_optimization_steps=3), [21, 22]
    latents = models.backbone.initial_latents(seeds)
    together = list(refine(problem(15), latents, seeds, Budget(), settings, start))
    alone = [list(refine(problem(15), latents[k : k + 1], [seeds[k]], Budget(), settings, start)) for k in range(2)]
    for step in together:
        same = alone[seeds.index(step.seed)][step.index]
        assert step.loss == pytest.approx(same.loss, rel=1e-2, abs=1e-2)


def test_noise_restarts_from_the_next_seed(models, problem):
    settings = NoiseSettings(num_optimization_steps=2)
    steps = list(islice(noise(problem(15), 1, Budget(), settings), 5))
    seeds = list(dict.fromkeys(step.seed for step in steps))
    assert seeds[:2] == [1, 1 + SEED_STRIDE]
    assert [step.index for step in steps] == list(range(5))


def test_auto_searches_first_and_refines_the_nearest(models, problem):
    settings = AutoSettings(refinement_cost=3.5)
    steps = list(islice(auto(problem(15), 0, Budget(), settings), 4))
    assert [step.phase for step in steps] == ["search"] * 3 + ["refine"]
    assert steps[3].seed == max(steps[:3], key=lambda step: step.rank).seed


def test_auto_refines_no_candidate_whose_loss_is_not_finite(models, problem, monkeypatch):
    intact = models.backbone.initial_latents

    def damaged(seeds):
        latents = intact(seeds)
        latents[[seed == 0 for seed in seeds]] = math.nan
        return latents

    monkeypatch.setattr(models.backbone, "initial_latents", damaged)
    settings = AutoSettings(refinement_cost=2.0, search=SearchSettings(batch_size=4))
    run = auto(problem(15), 0, Budget(), settings)
    assert [(step.phase, step.seed) for step in islice(run, 2)] == [("search", SEED_STRIDE), ("refine", SEED_STRIDE)]
