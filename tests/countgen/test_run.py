"""The generation of one image, through the public API."""

import json
import math
from dataclasses import replace

import pytest
import torch

import countgen
from countgen import recipe as recipes
from countgen.backbones import Backbone
from countgen.backbones.stable_diffusion_xl import StableDiffusionXL
from countgen.errors import CountGenError, RecipeError
from countgen.methods.noise import NoiseSettings
from countgen.methods.objective import Objective
from tests.countgen.tokens.examples import token_of


@pytest.fixture(scope="module")
def token(models):
    """Return a token of nine with the vectors of ten, so that it makes a difference."""
    return token_of(models.backbone, "ten", count=9, object_names=("cat",))


def test_generate_reaches_the_counts_and_the_judge_agrees(models):
    result = countgen.generate("a photo of seven apples", models, seed=1)
    assert result.counts == (7,)
    assert result.confirmed
    assert result.verified
    assert result.image.shape == (3, 128, 128)
    both = countgen.generate("a photo of two cats and one dog", models, seed=2)
    assert [target.object_name for target in both.targets] == ["cat", "dog"]
    assert both.counts == (2, 1)


def test_a_run_that_is_left_early_keeps_its_best_and_is_iterated_once(models):
    run = countgen.Run("a photo of twelve apples", models, seed=0)
    with pytest.raises(RuntimeError, match="nothing is generated"):
        run.result()
    for _ in run:
        break
    assert run.result().image.shape == (3, 128, 128)
    with pytest.raises(RuntimeError, match="create another Run"):
        list(run)


PASSES = ((Backbone, "render"), (Backbone, "render_in_parts"), (Objective, "evaluate"), (torch.autograd, "grad"))
SAMPLER_STEPS = ((StableDiffusionXL, "denoise"),)


@pytest.mark.parametrize(
    ("method", "seed", "watched", "number", "interrupted"),
    [
        # The second seed; all critics and views evaluate the first one.
        ("search", 1, PASSES, 6, "Backbone.render_in_parts"),
        ("search", 1, PASSES, 7, "Objective.evaluate"),
        ("noise", 1, PASSES, 3, "torch.autograd.grad"),  # of the images
        ("noise", 1, PASSES, 4, "torch.autograd.grad"),  # of the latents
        # The second of four sampler steps of the second batch: at this seed no image of the first one is right.
        ("search", 2, SAMPLER_STEPS, 6, "StableDiffusionXL.denoise"),
    ],
)
def test_stop_lets_only_the_pass_in_progress_end(models, monkeypatch, method, seed, watched, number, interrupted):
    backbone, passes = models.backbone.uncached_copy(), []
    backbone.num_inference_steps = 4 if watched == SAMPLER_STEPS else 1
    run = countgen.Run(
        "a photo of nine cats", replace(models, backbone=backbone), method=method, seed=seed, max_evaluations=12
    )

    def watch(owner, name):
        original = getattr(owner, name)

        def passed(*arguments, **options):
            passes.append(f"{owner.__name__}.{name}")
            if len(passes) == number:
                run.stop()
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, passed)

    for owner, name in watched:
        watch(owner, name)
    steps = list(run)
    assert passes[number - 1 :] == [interrupted]
    assert run.best in steps
    monkeypatch.undo()
    assert run.result().stopped is None


def test_stop_before_the_first_candidate_still_gives_an_image(models):
    run = countgen.Run("a photo of two apples", models, method="search", seed=0)
    run.stop()
    assert len(list(run)) == 1
    assert run.result().evaluations == 1


def test_a_loss_that_is_not_finite_keeps_the_best_so_far(models):
    # A learning rate that large throws the latents out of range after one real step.
    settings = NoiseSettings(learning_rate=1e38, optimizer="sgd", num_optimization_steps=5)
    run = countgen.Run("a photo of fifteen apples", models, method="noise", settings=settings, seed=0)
    for _ in run:
        pass
    assert "not finite at step" in run.stopped
    assert run.result().stopped == run.stopped


def test_a_run_ends_where_another_evaluation_gains_less_than_it_costs(models):
    prompt, options = "a photo of sixteen apples", {"method": "search", "seed": 0, "max_evaluations": 30}
    whole = countgen.generate(prompt, models, worth=math.inf, **options)
    cheap = countgen.generate(prompt, models, worth=5, **options)
    assert (whole.evaluations, whole.stopped) == (30, None)
    assert 1 <= cheap.evaluations <= 5
    assert "gain less than it costs" in cheap.stopped


def test_a_token_stands_for_the_number_or_placeholder_and_the_image_before_is_without_it(models, token):
    options = {"method": "plain", "seed": 3}
    with_token = countgen.generate("a photo of nine cats", models, token=token, **options)
    plain = countgen.generate("a photo of nine cats", models, **options)
    ten = countgen.generate("a photo of ten cats", models, **options)
    assert torch.equal(with_token.image, ten.image)
    assert torch.equal(with_token.before, plain.image)
    assert with_token.evaluations == plain.evaluations == 1
    named = countgen.generate("a photo of <count-9> cats", models, token=token, **options)
    assert named.targets == with_token.targets
    assert torch.equal(named.image, with_token.image)
    assert torch.equal(named.before, with_token.before)
    recipe = json.loads(json.dumps(named.recipe))
    assert recipe["token"] == {"placeholder_token": "<count-9>", "sha256": token.sha256}
    assert torch.equal(recipes.regenerate(recipe, models.backbone, token), named.image)
    with pytest.raises(RecipeError, match="got no token"):
        recipes.regenerate(recipe, models.backbone)
    assert torch.equal(recipes.regenerate(recipes.plain(recipe), models.backbone), named.before)


@pytest.mark.parametrize("limit", [1, 5])
@pytest.mark.parametrize("method", countgen.methods.available())
def test_no_method_exceeds_its_evaluations_also_under_no_grad(models, token, method, limit):
    never = (countgen.Target("cat", 40),)
    options = {"method": method, "seed": 1, "token": token, "targets": never, "max_evaluations": limit}
    with torch.no_grad():
        spent = list(countgen.Run("a photo of nine cats", models, **options))[-1].evaluations
    if method in ("edit", "reno"):  # they work on one seed, and end when the next gradient cannot be paid for
        assert limit - 4 < spent <= limit
    else:
        assert spent == (1 if method == "plain" else limit)


LONG = "on a wooden floor in front of a white wall with a large window and a red carpet in a bright room and"
UNCLEAR = [
    ("a photo of two aples", None, "nearest: apple"),
    ("five apples and a sofa", None, "no class for 'sofa'; .*it knows .*; nanodet, .*, or give .*--count apple=7"),
    ("a photo of 999 apples", None, "returns at most"),
    ("", (("apple", 7),), "prompt is empty"),
    ("an apple " * 1000, (("apple", 7),), r"at most \d+ are read"),
    (f"{LONG} seven apples", None, r"reads 32 tokens of a prompt.*put the numbers first"),
    ("two cats and three kittens", (("cat", 2), ("kitten", 3)), "one class"),
    ("a photo of <count-9> cats", None, "give that token too"),
]


def test_prompts_that_cannot_be_generated_say_why(subtests, models, token):
    for prompt, targets, word in UNCLEAR:
        targets = targets and tuple(countgen.Target(*target) for target in targets)
        with subtests.test(prompt=prompt), pytest.raises(ValueError, match=word):
            countgen.Run(prompt, models, targets=targets)
    with pytest.raises(CountGenError, match="write 'nine'"):
        countgen.Run("a photo of two cats", models, token=token)


def test_a_long_prompt_is_accepted_if_the_cut_part_counts_nothing_that_is_wanted(models):
    seven = (countgen.Target("apple", 7),)
    for end, targets in (("nothing else", None), ("two rows", None), ("two dogs", seven)):
        assert countgen.Run(f"seven apples, {LONG} {end}", models, targets=targets).targets == seven


def test_until_judge_keeps_what_the_judge_accepts_whatever_ranked_higher(models, monkeypatch):
    run = countgen.Run("a photo of two oranges", models, seed=4, until="judge", max_evaluations=200)
    honest, asked = run._judge, []

    def strict_at_first(image):
        asked.append(image)
        return (0,) if len(asked) == 1 else honest(image)

    monkeypatch.setattr(run, "_judge", strict_at_first)
    for _ in run:
        pass
    assert len(asked) > 1
    assert not torch.equal(run.best.image, asked[0])
    assert run.result().verified
    assert run.result().recipe["until"] == "judge"
