"""Search, noise and auto: what they yield, where they stop, and that gradients do their part."""

import math
from dataclasses import replace
from itertools import islice

import pytest
import torch

from countgen.errors import NonFiniteLossError
from countgen.methods.auto import AutoSettings, search_and_refine
from countgen.methods.refinement import NoiseSettings, clip, latent_prior, optimize_noise, refine
from countgen.methods.search import SEED_STRIDE, SearchSettings, draw, search_seeds
from countgen.methods.step import COST_WITH_GRADIENT, Budget, Step
from countgen.prompts import Target
from countgen.run import Run
from critics import Critic

APPLES = (Target("apple", 7),)


@pytest.fixture(scope="module")
def embeds(models):
    with torch.no_grad():
        return models.backbone.encode_prompt("a photo of seven apples")


def never(step: Step) -> bool:
    return False


def test_latent_prior_is_smallest_at_the_typical_norm():
    dimension = 4 * 16 * 16
    direction = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    direction /= direction.norm()
    typical = math.sqrt(dimension - 1)
    values = [float(latent_prior(direction * typical * factor)) for factor in (0.9, 1.0, 1.1)]
    assert values[1] < min(values[0], values[2])


def test_latent_prior_is_float32_for_half_latents():
    latents = torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(0)).half()
    value = latent_prior(latents)
    assert value.dtype == torch.float32
    assert torch.isfinite(value).all()


def test_latent_prior_matches_its_closed_form_in_float64():
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    norm = latents.double().flatten(1).norm(dim=1)
    expected = norm**2 / 2 - (4 * 8 * 8 - 1) * norm.log()
    torch.testing.assert_close(latent_prior(latents).double(), expected, rtol=1e-5, atol=1e-3)


def test_clip_scales_each_latent_on_its_own():
    latents = torch.zeros(3, 4, 2, 2, requires_grad=True)
    latents.grad = torch.stack([torch.full((4, 2, 2), value) for value in (100.0, 0.01, 0.0)])
    clip(latents, 1.0)
    norms = latents.grad.flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, torch.tensor([1.0, 0.04, 0.0]))


def test_draw_gives_each_seed_its_own_stock_picture(models, embeds):
    seeds = [3, 4]
    steps = draw(models.backbone, models.critics, embeds, APPLES, seeds, Budget(), SearchSettings())
    assert [step.seed for step in steps] == seeds
    with torch.no_grad():
        alone = models.backbone.render(models.backbone.initial_latents([4]), embeds)
    torch.testing.assert_close(steps[1].image, alone[0], atol=1e-4, rtol=0)


def test_search_never_draws_a_seed_twice_and_counts_its_evaluations(models, embeds):
    budget = Budget(max_evaluations=9)
    settings = SearchSettings(batch_size=3, first_batch_size=2)
    steps = list(search_seeds(models.backbone, models.critics, embeds, APPLES, 5, budget, settings, accept=never))
    assert {step.index: step.evaluations for step in steps} == {0: 2, 1: 5, 2: 8, 3: 9}
    assert all(step.confirmed for step, before in zip(steps[1:], steps, strict=False) if step.index == before.index)
    assert all((step.seed - 5) % SEED_STRIDE == 0 for step in steps)
    batches = islice(settings.batches(5), 3)
    seeds = [seed for batch in batches for seed in batch]
    assert len(set(seeds)) == len(seeds) == 8


def test_search_stops_at_the_first_confirmed_candidate(models, embeds):
    steps = list(search_seeds(models.backbone, models.critics, embeds, APPLES, 0, Budget(max_evaluations=200)))
    assert steps[-1].confirmed
    assert steps[-1].counts == (7,)
    assert not any(step.confirmed for step in steps[:-1])


def test_refine_lowers_the_loss_and_leaves_its_input_alone(models, embeds):
    seeds = [11, 12]
    latents = models.backbone.initial_latents(seeds)
    original = latents.clone()
    settings = NoiseSettings(num_optimization_steps=5)
    steps = list(
        refine(models.backbone, models.critics, embeds, (Target("apple", 11),), latents, seeds, Budget(), settings)
    )
    assert torch.equal(latents, original)
    assert steps[-1].confirmed or min(step.loss for step in steps[1:]) < steps[0].loss
    assert [step.index for step in steps] == list(range(len(steps)))
    assert steps[0].evaluations == len(seeds)


def test_a_gradient_is_charged_only_where_it_is_taken(models, embeds):
    settings = NoiseSettings(num_optimization_steps=3)
    budget = Budget()
    latents = models.backbone.initial_latents([1])
    target = (Target("apple", 15),)
    steps = list(refine(models.backbone, models.critics, embeds, target, latents, [1], budget, settings))
    assert [step.evaluations for step in steps] == [1, 1 + COST_WITH_GRADIENT, 1 + 2 * COST_WITH_GRADIENT]
    assert budget.evaluations == steps[-1].evaluations


def test_refine_moves_a_batch_as_it_moves_singles(models, embeds):
    seeds = [21, 22]
    latents = models.backbone.initial_latents(seeds)
    settings = NoiseSettings(num_optimization_steps=3)
    target = (Target("apple", 15),)
    together = list(refine(models.backbone, models.critics, embeds, target, latents, seeds, Budget(), settings))
    alone = [
        list(
            refine(models.backbone, models.critics, embeds, target, latents[k : k + 1], [seeds[k]], Budget(), settings)
        )
        for k in range(2)
    ]
    for step in together:
        same = alone[seeds.index(step.seed)][step.index]
        assert step.loss == pytest.approx(same.loss, rel=1e-2, abs=1e-2)


def test_noise_restarts_from_the_next_seed(models, embeds):
    settings = NoiseSettings(num_optimization_steps=2)
    run = optimize_noise(models.backbone, models.critics, embeds, (Target("apple", 15),), 1, Budget(), settings, never)
    steps = list(islice(run, 5))
    seeds = list(dict.fromkeys(step.seed for step in steps))
    assert seeds[:2] == [1, 1 + SEED_STRIDE]
    assert [step.index for step in steps] == list(range(5))


def test_auto_searches_first_and_refines_the_nearest(models, embeds):
    run = search_and_refine(models.backbone, models.critics, embeds, (Target("apple", 15),), 0, Budget(), accept=never)
    phases = [step.phase for step in islice(run, 4)]
    assert phases[0] == "search"
    assert "refine" in phases


def test_auto_refines_no_candidate_whose_loss_is_not_finite(models, embeds, monkeypatch):
    intact = models.backbone.initial_latents

    def damaged(seeds):
        latents = intact(seeds)
        latents[[seed == 0 for seed in seeds]] = math.nan
        return latents

    monkeypatch.setattr(models.backbone, "initial_latents", damaged)
    settings = AutoSettings(SearchSettings(first_batch_size=2), num_searches=1)
    target = (Target("apple", 15),)
    run = search_and_refine(models.backbone, models.critics, embeds, target, 0, Budget(), settings, accept=never)
    assert [(step.phase, step.seed) for step in islice(run, 2)] == [("search", SEED_STRIDE), ("refine", SEED_STRIDE)]


def test_a_loss_that_is_not_finite_names_the_step(models, embeds):
    latents = models.backbone.initial_latents([0])
    latents[0, 0, 0, 0] = float("nan")
    with pytest.raises(NonFiniteLossError, match="step 4"):
        list(refine(models.backbone, models.critics, embeds, APPLES, latents, [0], Budget(), NoiseSettings(), 4))


class Greedy(Critic):
    """Needs more memory than there is where a gradient is asked for."""

    def __init__(self, critic):
        self.critic = critic
        self.name = "greedy"
        self.object_names = critic.object_names

    def assess(self, images, *arguments, **options):
        if images.requires_grad:
            raise torch.OutOfMemoryError("out of memory: a gradient needs more")
        return self.critic.evaluate(images, *arguments, **options)


def test_a_run_that_is_out_of_memory_keeps_what_its_search_found(models):
    starved = replace(models, critics=(Greedy(models.critics[0]),))
    run = Run("a photo of fifteen apples", starved, seed=0)
    steps = list(run)
    assert {step.phase for step in steps} == {"search"}
    result = run.result()
    assert result.stopped is not None
    assert "out of memory" in result.stopped
    assert result.evaluations == steps[-1].evaluations


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_optimization_steps": 0}, "num_optimization_steps"),
        ({"optimizer": "lion"}, "available: adam, sgd"),
        ({"loss": "l3"}, "available: l1, d2d, margin"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_settings_refuse_what_cannot_work(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(NoiseSettings(), **changes)


@pytest.mark.parametrize("limits", [{"max_seconds": 0}, {"max_evaluations": -1}])
def test_budget_refuses_nothing_to_spend(limits):
    with pytest.raises(ValueError, match="above 0"):
        Budget(**limits)
