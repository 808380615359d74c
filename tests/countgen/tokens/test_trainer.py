"""Training of a token, with few steps, on the embedded models."""

import itertools
from dataclasses import replace

import pytest
import torch

import countgen
from countgen import backbones
from countgen.critics.detectors.density import DensityCritic
from countgen.critics.dynamic_scale import DynamicScaleCritic
from countgen.critics.networks.density import DensityCounter
from countgen.errors import CheckpointError, NonFiniteLossError
from countgen.miniature.world import OBJECT_NAMES
from countgen.tokens import trainer
from countgen.tokens.file import encoded
from countgen.tokens.settings import LearnSettings
from countgen.tokens.textual_inversion import encode_prompt, encoders_of, injected, word_vectors
from countgen.tokens.trainer import Learning

TOY = LearnSettings(
    distillation_steps=0,
    objects_per_step=1,
    seeds_per_object=1,
    num_optimization_steps=2,
    validate_every=2,
    validation_images=1,
)
DISTILLED = replace(TOY, distillation_steps=2, objects_per_step=2)
OBJECTS = ("apple", "dog")


@pytest.fixture
def frozen(models):
    """Yield the models, and check afterwards that their weights are unchanged."""
    modules = [models.backbone.denoiser, *(e.module for e in encoders_of(models.backbone).values())]
    before = [[parameter.clone() for parameter in module.parameters()] for module in modules]
    yield models
    for module, parameters in zip(modules, before, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(module.parameters(), parameters, strict=True))
        assert all(parameter.grad is None for parameter in module.parameters())


def test_training_lowers_the_loss_and_changes_the_vectors_and_no_weight(frozen):
    settings = replace(
        TOY, templates=("{number} {objects}",), num_optimization_steps=4, learning_rate=0.003, validate_every=8, seed=3
    )
    learning = Learning(frozen, 6, ("apple",), settings)
    start = learning.token
    # Every step has the same batch of one image, so that its loss must decrease.
    learning._backward, backward = (lambda vectors, index: backward(vectors, 0)), learning._backward
    steps = list(learning)
    assert min(step.loss for step in steps[1:]) < steps[0].loss
    assert learning.state.evaluations == 1 + 4 * 3 + 1  # validation images, and four steps with gradient between them
    for key, vectors in learning.state.vectors.items():
        assert not torch.equal(vectors, start.vectors[key])


def test_a_token_starts_as_the_number_word_repeated_for_more_vectors_and_never_truncated(models):
    for word, count, num_vectors in (("seven", 7, 1), ("sixteen", 16, 5)):
        token = Learning(models, count, OBJECTS, TOY).token
        assert token.vectors["clip_l"].shape == (num_vectors, 128)
        with torch.no_grad():
            with_token = encode_prompt(models.backbone, f"{word} apples", token)
            written = models.backbone.encode_prompt(f"{word} apples")
        assert torch.equal(with_token.prompt_embeds, written.prompt_embeds)
    more = Learning(models, 7, OBJECTS, replace(TOY, num_vectors=3)).token.vectors["clip_l"]
    assert torch.equal(more, word_vectors(models.backbone, "seven seven seven")["clip_l"])


def test_a_resumed_run_gives_the_same_token(light_models, tmp_path, subtests):
    whole = Learning(light_models, 3, OBJECTS, DISTILLED)
    steps = list(whole)
    phases = [f"{step.phase} {step.index}" for step in steps]
    assert phases == ["distill 0", "distill 1", "train 0", "train 1"]
    for kept in (1, 2, 3):
        with subtests.test(kept=kept):
            path = tmp_path / f"{kept}.safetensors"
            list(itertools.islice(Learning(light_models, 3, OBJECTS, DISTILLED, path), kept))
            rest = Learning(light_models, 3, OBJECTS, DISTILLED, path)
            assert [step.loss for step in rest] == [step.loss for step in steps[kept:]]
            assert encoded(rest.token) == encoded(whole.token)
            assert rest.state.validations == whole.state.validations
            assert rest.state.evaluations == whole.state.evaluations


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_an_error(light_models, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    list(itertools.islice(Learning(light_models, 3, OBJECTS, TOY, path), 1))
    with pytest.raises(CheckpointError, match="another training run"):
        Learning(light_models, 4, OBJECTS, TOY, path)
    data = path.read_bytes()
    for damaged in (data[:100], data.replace(b'\\"step\\":1', b'\\"step\\":x'), data.replace(b"moments.", b"momenta.")):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            Learning(light_models, 3, OBJECTS, TOY, path)


def test_the_best_vectors_are_kept_when_patience_or_a_loss_that_is_not_finite_ends_training(models):
    settings = replace(TOY, num_optimization_steps=50, validate_every=1, patience=2, learning_rate=10.0)
    learning = Learning(models, 2, ("apple",), settings)
    start = learning.token
    assert len(list(learning)) == 2
    best, validations = learning.state.best_validation, learning.state.validations
    assert best == max(validations, key=lambda validation: (validation.accuracy, -validation.loss))
    # Training diverges at this learning rate, so that the initial vectors stay the best.
    assert best.step == 0
    assert encoded(learning.token) == encoded(start)
    learning = Learning(models, 2, ("apple",), replace(TOY, learning_rate=1e37))
    with pytest.raises(NonFiniteLossError, match="lower learning_rate"):
        list(learning)
    assert learning.token.sha256 == start.sha256


def test_distillation_brings_samples_of_the_token_closer_to_the_teacher_prompts(models):
    backbone, target = models.backbone, countgen.Target("apple", 2)
    settings = replace(DISTILLED, distillation_steps=6, num_optimization_steps=0)
    learning = Learning(models, 2, ("apple",), settings)
    word = learning.state.vectors
    steps = list(learning)
    assert len(steps) == 6
    latents = backbone.initial_latents([7])  # a seed that no example has
    with torch.no_grad():
        expected = backbone.sample(latents, backbone.encode_prompt("two apples"), [7])

        def distance(vectors):
            embeds = learning._encoded(vectors, "a photo of {number} {objects}", target)
            return (backbone.sample(latents, embeds, [7]) - expected).square().mean()

        assert distance(learning.state.vectors) < 0.8 * distance(word)


def test_the_semantic_loss_is_weighted_and_left_out_at_weight_zero(models):
    settings = replace(TOY, num_optimization_steps=1, semantic_weight=0.0)
    without, once, twice = (
        next(iter(Learning(models, 3, ("apple",), replace(settings, semantic_weight=weight)))).loss
        for weight in (0.0, 1.0, 2.0)
    )
    assert 0 < once - without < 1  # one minus a probability
    assert twice - without == pytest.approx(2 * (once - without), abs=1e-4)


IMPOSSIBLE = [
    ((), {}, "at least one"),
    (OBJECTS, {"num_vectors": 4}, r"'sixteen' is 5 tokens long .* give num_vectors=5"),
    (("aeroplane",), {}, "no class"),
    (OBJECTS, {"num_vectors": 33}, "num_vectors"),
    (OBJECTS, {"templates": ("seven apples",)}, "{number}"),
    (OBJECTS, {"templates": ()}, "at least one template"),
    (OBJECTS, {"loss": "magic"}, "one of l1"),
    (OBJECTS, {"learning_rate": 0.0}, "learning_rate"),
]


def test_impossible_training_settings_are_errors(subtests, models):
    for objects, settings, message in IMPOSSIBLE:
        with subtests.test(objects=objects, settings=settings), pytest.raises(ValueError, match=message):
            Learning(models, 16, objects, LearnSettings(**settings))


def test_a_detector_without_a_semantic_loss_trains_only_at_weight_zero(models):
    counter = DensityCritic(DensityCounter(len(OBJECT_NAMES)), OBJECT_NAMES)
    with_counter = replace(models, critics=(DynamicScaleCritic(models.critics[0], counter),))
    settings = replace(TOY, num_optimization_steps=1)
    with pytest.raises(ValueError, match="set semantic_weight to 0"):
        Learning(with_counter, 3, ("apple",), settings)
    assert len(list(Learning(with_counter, 3, ("apple",), replace(settings, semantic_weight=0.0)))) == 1


def test_the_distillation_gradient_of_a_float16_model_does_not_underflow(models):
    half = backbones.load("miniature", device="cpu", dtype=torch.float16)

    def gradient(backbone):
        vectors = {key: vector.requires_grad_() for key, vector in word_vectors(backbone, "two").items()}
        latents = backbone.initial_latents([5])
        with torch.no_grad():
            expected = backbone.sample(latents, backbone.encode_prompt("two apples"), [5])
        with injected(backbone, "<count-2>", vectors) as encode:
            sample = trainer._sample(backbone, latents, encode("a photo of <count-2> apples"), 5)
        (1e-4 * (sample - expected.float()).square().mean()).backward()
        return torch.cat([value.grad.flatten() for value in vectors.values()])

    # Without gradient scaling float16 rounds the whole gradient to zero.
    assert torch.cosine_similarity(gradient(models.backbone), gradient(half), dim=0) > 0.9
