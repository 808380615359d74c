"""The way of one image, on the lightest of the embedded models: prompt, seeds, method, judge, recipe."""

import json
import math

import pytest
import torch

import countgen
from countgen import Models, Run
from countgen.backbones import PromptEmbeds
from countgen.methods import refinement
from countgen.methods.noise import NoiseSettings
from countgen.methods.seeds import SEED_STRIDE
from countgen.number_slider.axis import moved_along
from countgen.prompts import Target
from countgen.recipe import regenerate

pytestmark = pytest.mark.core

NEVER = (Target("apple", 40),)
"""A count that no image of the model has, so that every run spends its budget."""


def test_a_search_gives_the_best_of_its_seeds_and_its_recipe_the_same_image(light_models: Models) -> None:
    run = Run("a photo of nine apples", light_models, targets=NEVER, method="search", seed=3, max_evaluations=6)
    steps = list(run)
    result = run.result()
    assert steps[-1].evaluations == 6
    assert run.best is max(steps, key=lambda step: step.rank)
    assert {step.seed for step in steps} <= {3 + k * SEED_STRIDE for k in range(6)}
    assert (result.seed, result.evaluations, result.counts) == (3, 6, run.best.counts)
    recipe = json.loads(json.dumps(result.recipe))
    assert (recipe["seed"], recipe["candidate_seed"]) == (3, run.best.seed)
    assert torch.equal(regenerate(recipe, light_models.backbone), result.image)


def test_before_is_the_plain_image_of_the_seed_and_after_is_counted_by_the_judge(light_models: Models) -> None:
    backbone, judge = light_models.backbone, light_models.judge
    options = {"targets": NEVER, "method": "search", "seed": 2, "max_evaluations": 3}
    result = countgen.generate("nine apples", light_models, **options)
    with torch.no_grad():
        plain = backbone.render(backbone.initial_latents([2]), backbone.encode_prompt("nine apples"), [2])[0]
    assert torch.equal(result.before, plain)
    assert not torch.equal(result.image, plain)
    assert judge is not None
    assert result.judge_counts == tuple(judge.counts(result.image[None], ["apple"])[0].tolist())
    (detections,), (expected,) = result.detections, judge.detect(result.image, ["apple"])[0]
    assert torch.equal(detections.boxes, expected.boxes)
    assert (result.recipe["critics"], result.recipe["judge"]) == (["miniature-heatmap"], "miniature-fcos")


def test_refinement_moves_the_noise_by_the_clipped_gradient_and_the_loss_falls(light_models: Models) -> None:
    settings = NoiseSettings(optimizer="sgd", learning_rate=0.05, max_grad_norm=0.1)
    run = Run("nine apples", light_models, targets=NEVER, method="noise", settings=settings, max_evaluations=4)
    first, second = run
    assert second.loss < first.loss
    # With Nesterov momentum the first step is 1.9 times the gradient.
    moved = float((second.latents - first.latents).norm())
    assert moved == pytest.approx(1.9 * settings.learning_rate * settings.max_grad_norm, rel=1e-3)
    assert [step.evaluations for step in (first, second)] == [1, 4]


def test_clipping_scales_each_latents_gradient_down_to_the_norm_and_leaves_smaller_ones() -> None:
    latents = torch.zeros(3, 1, 2, 2, requires_grad=True)
    latents.grad = torch.tensor([3.0, 0.3, 0.0]).view(3, 1, 1, 1).expand(3, 1, 2, 2).clone()
    refinement.clip(latents, 1.0)
    assert latents.grad[:, 0, 0, 0].tolist() == pytest.approx([0.5, 0.3, 0.0])


def test_moving_along_the_number_axis_by_its_length_leads_from_the_low_number_to_the_high_one() -> None:
    low, high = (PromptEmbeds(torch.full((1, 3, 4), value), torch.full((1, 2), value)) for value in (1.0, 3.0))
    moved = moved_along(low, low, high, 1.0)
    assert torch.equal(moved.prompt_embeds, high.prompt_embeds)
    assert moved.pooled_prompt_embeds is not None
    assert torch.equal(moved.pooled_prompt_embeds, torch.full((1, 2), 3.0))
    assert math.isclose(float(moved_along(high, low, high, 0.5).prompt_embeds.mean()), 4.0)
