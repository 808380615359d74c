"""What an adapter does to latents, and generation with one."""

import copy
import json
from dataclasses import replace

import pytest
import torch

import countgen
from countgen import recipe as recipes
from countgen.adapters.adapter import built, prompt_vector
from countgen.backbones import PromptEmbeds
from countgen.backbones.lora import Lora
from countgen.errors import AdapterFileError, RecipeError
from countgen.methods.problem import Problem
from countgen.methods.step import Budget

PROMPT = "a photo of four apples"
TARGETS = (countgen.Target("apple", 4),)


@pytest.fixture(scope="module")
def embeds(models):
    with torch.no_grad():
        return models.backbone.encode_prompt(PROMPT)


@pytest.fixture(scope="module")
def seeing(adapter):
    """The adapter with a network that also reads what the latents are denoised to."""
    config = replace(adapter.config, sees_sample=True)
    weights = {
        name: adapter.weights[name] if adapter.weights[name].shape == value.shape else torch.ones(value.shape).half()
        for name, value in built(config, "meta").state_dict().items()
    }
    return replace(adapter, config=config, weights=weights)


def test_latents_are_moved_and_keep_their_norm(adapter, models, embeds):
    latents = models.backbone.initial_latents([1, 2])
    moved = adapter.move(models.backbone, latents, TARGETS, embeds, [1, 2])
    assert not torch.allclose(moved, latents, atol=0.1)
    torch.testing.assert_close(moved.flatten(1).norm(dim=1), latents.flatten(1).norm(dim=1))


def test_count_and_prompt_decide_where_latents_go(adapter, models, embeds):
    backbone, latents = models.backbone, models.backbone.initial_latents([1])
    with torch.no_grad():
        other = backbone.encode_prompt("a photo of four dogs")
    moved = adapter.move(backbone, latents, TARGETS, embeds, [1])
    assert not torch.equal(moved, adapter.move(backbone, latents, (countgen.Target("apple", 5),), embeds, [1]))
    assert not torch.equal(moved, adapter.move(backbone, latents, TARGETS, other, [1]))


def test_an_untrained_network_moves_nothing(adapter, models):
    network = built(adapter.config)
    latents = models.backbone.initial_latents([1])
    assert not network(latents, 4, torch.ones(1, adapter.config.prompt_dim)).any()


def test_prompts_without_a_pooled_embedding_are_the_mean_of_their_tokens():
    tokens = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])
    assert prompt_vector(PromptEmbeds(tokens, attention_mask=torch.tensor([[1, 1, 0]]))).tolist() == [[2.0, 3.0]]
    assert prompt_vector(PromptEmbeds(tokens[:, :2])).tolist() == [[2.0, 3.0]]


@pytest.mark.parametrize("method", ["plain", "search", "noise", "lmn", "auto"])
def test_every_method_starts_from_moved_latents_and_regenerates_exactly(models, adapter, embeds, method):
    result = countgen.generate(PROMPT, models, method=method, seed=3, max_evaluations=5, adapter=adapter)
    recipe = json.loads(json.dumps(result.recipe))
    assert recipe["adapter"] == {"sha256": adapter.sha256}
    assert torch.equal(recipes.regenerate(recipe, models.backbone), result.image)
    plain = countgen.generate(PROMPT, models, method="plain", seed=3)
    assert torch.equal(result.before, plain.image)
    assert torch.equal(recipes.regenerate(recipes.plain(recipe), models.backbone), result.before)
    assert "adapter" not in recipes.plain(recipe)
    assert not torch.equal(result.image, result.before)
    if method == "plain":
        latents = models.backbone.initial_latents([3])
        moved = adapter.move(models.backbone, latents, TARGETS, embeds, [3])
        assert torch.equal(recipes.latents_of(recipe, models.backbone), moved)


def test_moved_latents_do_not_depend_on_their_batch(models, adapter, embeds):
    problem = Problem(models.backbone, models.critics, TARGETS, embeds, adapter=adapter)
    budget = Budget()
    batch = problem.initial_latents([1, 2, 3], budget)
    assert torch.equal(batch[1:2], problem.initial_latents([2], budget))
    assert budget.evaluations == 0


def test_an_image_with_an_adapter_and_a_token_is_regenerated_exactly(models, adapter):
    token = countgen.find_token("count-4", "miniature")
    result = countgen.generate(PROMPT, models, method="plain", seed=3, adapter=adapter, token=token)
    recipe = json.loads(json.dumps(result.recipe))
    assert torch.equal(recipes.regenerate(recipe, models.backbone, token), result.image)
    with pytest.raises(RecipeError, match="a token whose vectors"):
        recipes.regenerate(recipe, models.backbone)


def test_an_image_with_an_adapter_is_edited_from_its_own_latents(models, adapter):
    made = countgen.generate(PROMPT, models, method="plain", seed=3, adapter=adapter)
    edited = countgen.edit(made, models, counts={"apple": 5}, max_evaluations=1)
    assert torch.equal(edited.before, made.image)
    assert "adapter" not in edited.recipe


def test_the_adapters_own_evaluations_are_paid_for(models, seeing):
    for method, limit in (("plain", 2), ("search", 9), ("noise", 12), ("auto", 21)):
        run = countgen.Run(PROMPT, models, method=method, seed=3, max_evaluations=limit, adapter=seeing)
        steps = list(run)
        assert steps[0].evaluations % 2 == 0
        assert steps[-1].evaluations <= limit
    assert steps[0].evaluations == 2 * 4  # the first batch of the search
    with pytest.raises(ValueError, match="takes 2 evaluations"):
        countgen.Run(PROMPT, models, max_evaluations=1, adapter=seeing)


def test_what_an_adapter_was_not_trained_for_is_refused(models, adapter, subtests):
    other = countgen.backbones.load("miniature", device="cpu", height=64, width=64)
    pixart = replace(adapter, base_model="miniature-pixart")
    with_lora = copy.copy(models.backbone)
    with_lora.loras = (Lora("owner/style"),)
    for prompt, options, error, message in (
        ("nine apples", {}, ValueError, "counts from 3 to 6, got 9"),
        ("two apples", {}, ValueError, "counts from 3 to 6, got 2"),
        ("three apples and two dogs", {}, ValueError, "one object class, this prompt has 2"),
        (PROMPT, {"method": "edit"}, ValueError, "'edit' keeps an image"),
        (PROMPT, {"adapter": [adapter, adapter]}, ValueError, "one noise adapter is used at a time.*got list"),
        (PROMPT, {"adapter": pixart}, AdapterFileError, "trained on 'miniature-pixart'.*'miniature'"),
        (PROMPT, {"models": replace(models, backbone=with_lora)}, AdapterFileError, "without LoRAs.*got owner/style"),
        (PROMPT, {"models": replace(models, backbone=other)}, AdapterFileError, r"\(4, 32, 32\).*got \(4, 16, 16\)"),
    ):
        given = {"models": models, "adapter": adapter, **options}
        with subtests.test(prompt=prompt, options=options), pytest.raises(error, match=message):
            countgen.Run(prompt, **given)


def test_weights_that_overflow_are_refused(models, adapter, embeds):
    weights = {name: torch.full_like(value, 60000) for name, value in adapter.weights.items()}
    with pytest.raises(AdapterFileError, match="not finite; leave it out"):
        replace(adapter, weights=weights).move(
            models.backbone, models.backbone.initial_latents([1]), TARGETS, embeds, [1]
        )


def test_prompt_vectors_of_another_dimension_are_refused(models, adapter, embeds):
    config = replace(adapter.config, prompt_dim=4)
    weights = {name: torch.zeros(value.shape).half() for name, value in built(config, "meta").state_dict().items()}
    other = replace(adapter, config=config, weights=weights)
    with pytest.raises(AdapterFileError, match="of 4 dimensions, miniature has 128"):
        other.move(models.backbone, models.backbone.initial_latents([1]), TARGETS, embeds, [1])
