"""Search, noise and auto: what they yield, where they stop, and that gradients do their part."""

import math
from dataclasses import replace
from itertools import islice

import pytest
import torch

import countgen
from countgen.critics import Critic
from countgen.errors import NonFiniteLossError
from countgen.methods.auto import AutoSettings, auto
from countgen.methods.noise import NoiseSettings, noise
from countgen.methods.problem import Problem, confirmed
from countgen.methods.refinement import RefinementSettings, clip, latent_prior, refine
from countgen.methods.search import search
from countgen.methods.seeds import SEED_STRIDE, SearchSettings, evaluate_seeds, searched
from countgen.methods.step import COST_WITH_GRADIENT, Budget, Step
from countgen.prompts import Target
from countgen.run import Run


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


def test_each_seed_is_evaluated_on_its_own_stock_image(models, problem, embeds):
    seeds = [3, 4]
    steps = evaluate_seeds(problem(7), seeds, Budget())
    assert [step.seed for step in steps] == seeds
    with torch.no_grad():
        alone = models.backbone.render(models.backbone.initial_latents([4]), embeds)
    torch.testing.assert_close(steps[1].image, alone[0], atol=1e-4, rtol=0)


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


def test_refine_lowers_the_loss_and_leaves_its_input_alone(models, problem):
    seeds = [11, 12]
    latents = models.backbone.initial_latents(seeds)
    original = latents.clone()
    settings = NoiseSettings(num_optimization_steps=5)
    steps = list(refine(problem(11), latents, seeds, Budget(), settings))
    assert torch.equal(latents, original)
    assert steps[-1].confirmed or min(step.loss for step in steps[1:]) < steps[0].loss
    assert [step.index for step in steps] == list(range(len(steps)))
    assert steps[0].evaluations == len(seeds)


def test_a_gradient_is_charged_only_where_it_is_taken(models, problem):
    settings = NoiseSettings(num_optimization_steps=3)
    budget = Budget()
    latents = models.backbone.initial_latents([1])
    steps = list(refine(problem(15), latents, [1], budget, settings))
    assert [step.evaluations for step in steps] == [1, 1 + COST_WITH_GRADIENT, 1 + 2 * COST_WITH_GRADIENT]
    assert budget.evaluations == steps[-1].evaluations


def test_refine_moves_a_batch_as_it_moves_singles(models, problem):
    seeds = [21, 22]
    latents = models.backbone.initial_latents(seeds)
    settings = NoiseSettings(num_optimization_steps=3)
    together = list(refine(problem(15), latents, seeds, Budget(), settings))
    alone = [list(refine(problem(15), latents[k : k + 1], [seeds[k]], Budget(), settings)) for k in range(2)]
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


def test_a_loss_that_is_not_finite_names_the_step(models, problem):
    latents = models.backbone.initial_latents([0])
    latents[0, 0, 0, 0] = float("nan")
    with pytest.raises(NonFiniteLossError, match="step 4"):
        list(refine(problem(7), latents, [0], Budget(steps=4), RefinementSettings()))


class Greedy(Critic):
    """Needs more memory than there is where a gradient is asked for."""

    def __init__(self, critic):
        self.critic = critic
        self.name = "greedy"
        self.object_names = critic.object_names

    def evaluate(self, images, *arguments, **options):
        if images.requires_grad:
            raise torch.OutOfMemoryError("out of memory: a gradient needs more")
        return self.critic.evaluate(images, *arguments, **options)


def test_a_run_that_is_out_of_memory_keeps_what_its_search_found():
    models = countgen.load("miniature", device="cpu")  # not the tests' shared one: its memory becomes "low"
    starved = replace(models, critics=(Greedy(models.critics[0]),))
    always = AutoSettings(refinement_cost=1.0)
    run = Run("a photo of fifteen apples", starved, seed=0, settings=always)
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
        ({"optimizer": "lion"}, "one of adam, sgd"),
        ({"loss": "l3"}, "one of d2d, l1, margin"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate must be above 0"),
        ({"prior_power": -1.0}, "prior_power must be at least 0"),
    ],
)
def test_settings_refuse_what_cannot_work(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(NoiseSettings(), **changes)


@pytest.mark.parametrize("limits", [{"max_seconds": 0}, {"max_evaluations": -1}])
def test_budget_refuses_nothing_to_spend(limits):
    with pytest.raises(ValueError, match="above 0"):
        Budget(**limits)
