"""Training of a token, with few steps, on the embedded models."""

import itertools
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import countgen
from countgen import backbones
from countgen.critics.detectors.density import DensityCritic
from countgen.critics.dynamic_scale import DynamicScaleCritic
from countgen.critics.networks.density import build as build_counter
from countgen.errors import CheckpointError
from countgen.learning.checkpoint import load_checkpoint
from countgen.miniature.world import OBJECT_NAMES
from countgen.tokens import distillation
from countgen.tokens.distillation import Example, distill
from countgen.tokens.file import encoded, load_token
from countgen.tokens.textual_inversion import encoders_of, injected, length_of
from countgen.tokens.trainer import Learning, LearnSettings, class_confidence, learn_token

TOY = LearnSettings(
    teacher=None,
    initial_step=0,
    objects_per_step=1,
    seeds_per_object=1,
    num_optimization_steps=2,
    validate_every=2,
    validation_images=1,
)
OBJECTS = ("apple", "dog")


@pytest.fixture
def frozen(models):
    """Yield the models, and check afterwards that their weights are unchanged."""
    parts = [models.backbone.denoiser, *(e.module for e in encoders_of(models.backbone).values())]
    before = [[parameter.clone() for parameter in part.parameters()] for part in parts]
    yield models
    for part, parameters in zip(parts, before, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(part.parameters(), parameters, strict=True))
        assert all(parameter.grad is None for parameter in part.parameters())


def test_training_changes_the_vectors_and_no_weight(frozen):
    learning = learn_token(frozen, 3, OBJECTS, TOY)
    start = learning.token
    steps = list(learning)
    assert [step.phase for step in steps] == ["train"] * 2
    assert [step.index for step in steps] == [0, 1]
    assert steps[-1].evaluations == 1 + 2 * 3  # one validation image, two steps with gradient
    for key, vectors in learning.state.parameters.items():
        assert not torch.equal(vectors, start.vectors[key])


def test_a_token_starts_as_the_number_word(models):
    token = learn_token(models, 7, OBJECTS, TOY).token
    with torch.no_grad():
        spoken = countgen.tokens.textual_inversion.encode_prompt(models.backbone, "seven apples", token)
        written = models.backbone.encode_prompt("seven apples")
    assert torch.equal(spoken.prompt_embeds, written.prompt_embeds)


def test_several_vectors_start_from_a_text(models):
    settings = replace(TOY, num_vectors=3, initial_text="a photo")
    vectors = learn_token(models, 7, OBJECTS, settings).token.vectors["clip_l"]
    encoder = encoders_of(models.backbone)["clip_l"]
    ids = models.backbone.pipeline.tokenizer("a photo photo", add_special_tokens=False).input_ids
    assert torch.equal(vectors, encoder.table.weight[ids].float())


def test_encoders_that_are_not_trained_keep_the_initial_text(models):
    learning = learn_token(models, 3, OBJECTS, replace(TOY, encoders=("clip_l",), num_optimization_steps=1))
    start = learning.token
    list(learning)
    assert torch.equal(learning.state.parameters["clip_g"], start.vectors["clip_g"])
    assert not torch.equal(learning.state.parameters["clip_l"], start.vectors["clip_l"])


def test_the_loss_decreases_on_training_images(models):
    settings = replace(
        TOY, templates=("{number} {objects}",), num_optimization_steps=4, learning_rate=0.003, validate_every=8
    )
    one = Learning(models, 6, ("apple",), replace(settings, seed=3))
    # Every step has the same batch of one image, so that its loss must decrease.
    one._backward, backward = (lambda vectors, index: backward(vectors, 0)), one._backward
    losses = [step.loss for step in one]
    assert min(losses[1:]) < losses[0]


def test_equal_settings_and_a_resumed_run_give_the_same_token(models, tmp_path):
    whole, again = (learn_token(models, 3, OBJECTS, TOY) for _ in range(2))
    assert [step.loss for step in whole] == [step.loss for step in again]
    assert encoded(whole.token) == encoded(again.token)
    path = tmp_path / "checkpoint.safetensors"
    list(itertools.islice(learn_token(models, 3, OBJECTS, TOY, checkpoint=path), 1))
    rest = learn_token(models, 3, OBJECTS, TOY, checkpoint=path)
    assert [step.index for step in rest] == [1]
    assert encoded(rest.token) == encoded(whole.token)
    assert rest.state.evaluations == whole.state.evaluations


@pytest.mark.slow
def test_a_killed_run_resumes_from_its_last_step(models, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    endless = replace(TOY, num_optimization_steps=10**6, patience=10**6, validate_every=10**6)
    script = (
        "import pathlib, countgen\n"
        "from countgen.tokens.trainer import LearnSettings, learn_token\n"
        "models = countgen.load('miniature', device='cpu')\n"
        f"for step in learn_token(models, 3, {OBJECTS}, {endless}, checkpoint=pathlib.Path({str(path)!r})):\n"
        "    print(step.index, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as learner:
        seen = [learner.stdout.readline() for _ in range(2)]
        learner.kill()
    assert seen == ["0\n", "1\n"]
    learning = learn_token(models, 3, OBJECTS, endless, checkpoint=path)
    assert next(iter(learning)).index >= 2
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".part")] == ["checkpoint.safetensors"]


DISTILLED = replace(
    TOY,
    teacher="{number} {objects}",
    teacher_steps=3,
    objects_per_step=2,
    initial_step=0.5,
    initial_tries=1,
    num_optimization_steps=1,
)


@pytest.mark.slow
def test_distillation_yields_its_steps_and_resumes(models, tmp_path, subtests):
    whole = learn_token(models, 3, OBJECTS, DISTILLED)
    steps = list(whole)
    assert [(step.phase, step.index) for step in steps] == [*(("distill", k) for k in range(3)), ("train", 0)]
    assert all(step.image.shape == (3, 128, 128) and not step.image.requires_grad for step in steps)
    assert sorted(step.seconds for step in steps) == [step.seconds for step in steps]
    assert steps[-1].evaluations == whole.state.evaluations - 1  # one validation image at the end
    assert whole.steps_made == 4

    for kept in (1, 3):
        with subtests.test(kept=kept):
            path = tmp_path / f"{kept}.safetensors"
            list(itertools.islice(learn_token(models, 3, OBJECTS, DISTILLED, checkpoint=path), kept))
            rest = learn_token(models, 3, OBJECTS, DISTILLED, checkpoint=path)
            assert len(list(rest)) == 4 - kept
            assert encoded(rest.token) == encoded(whole.token)
            assert rest.validations == whole.validations
            assert rest.best_validation == whole.best_validation
            assert rest.state.evaluations == whole.state.evaluations


@pytest.mark.slow
def test_a_run_that_is_stopped_before_its_first_step_leaves_a_checkpoint(models, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    learning = learn_token(models, 3, OBJECTS, DISTILLED, checkpoint=path)

    def interrupted(_):
        raise KeyboardInterrupt

    learning._validate = interrupted
    with pytest.raises(KeyboardInterrupt):
        list(learning)
    assert len(list(learn_token(models, 3, OBJECTS, DISTILLED, checkpoint=path))) == 4


@pytest.mark.slow
def test_distillation_and_line_search_change_only_trained_encoders(models):
    learning = learn_token(models, 3, OBJECTS, replace(DISTILLED, encoders=("clip_g",)))
    tried = []
    learning._validate, validate = (lambda vectors: (tried.append(vectors), validate(vectors))[1]), learning._validate
    list(learning)
    assert len(tried) == 4  # initial vectors, distillation, line search, end of training
    assert all(torch.equal(vectors["clip_l"], learning.initial_vectors["clip_l"]) for vectors in tried)
    assert not any(torch.equal(vectors["clip_g"], learning.initial_vectors["clip_g"]) for vectors in tried[1:])


def test_the_distillation_has_every_object_with_every_template(models):
    settings = replace(DISTILLED, templates=("a photo of {number} {objects}", "{number} {objects}"), objects_per_step=4)
    examples = learn_token(models, 3, OBJECTS, settings)._distillation_examples("{number} {objects}")
    assert {example.prompt for example in examples} == {
        f"{start}<count-3> {objects}" for start in ("a photo of ", "") for objects in ("apples", "dogs")
    }
    assert all(example.prompt.endswith(example.target.object_name + "s") for example in examples)


def test_a_number_of_several_tokens_is_not_truncated(models):
    with pytest.raises(ValueError, match=r"'sixteen' is 5 tokens long .* give num_vectors=5"):
        learn_token(models, 16, OBJECTS, TOY)
    assert length_of("sixteen", models.backbone) == 5
    word = learn_token(models, 16, OBJECTS, replace(TOY, num_vectors=5)).initial_vectors["clip_l"]
    assert len(word.unique(dim=0)) == 5


def test_a_checkpoint_of_another_training_run_is_refused(models, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    list(itertools.islice(learn_token(models, 3, OBJECTS, TOY, checkpoint=path), 1))
    with pytest.raises(CheckpointError, match="another training run"):
        learn_token(models, 4, OBJECTS, TOY, checkpoint=path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path, "")


def test_the_best_vectors_by_validation_are_kept_and_patience_ends_training(models):
    settings = replace(TOY, num_optimization_steps=50, validate_every=1, patience=2, learning_rate=10.0)
    learning = learn_token(models, 2, ("apple",), settings)
    start = learning.token
    assert len(list(learning)) == 2
    best = learning.best_validation
    assert best == max(learning.validations, key=lambda validation: (validation.accuracy, -validation.loss))
    # Training diverges at this learning rate, so that the initial vectors stay the best.
    assert best.step == 0
    assert torch.equal(learning.token.vectors["clip_l"], start.vectors["clip_l"])


def test_the_line_search_goes_to_the_neighbouring_number_that_corrects_the_count(models):
    settings = replace(TOY, initial_step=0.5, initial_tries=2, num_optimization_steps=0, validation_images=2)
    learning = learn_token(models, 6, OBJECTS, settings)
    assert list(learning) == []
    tried = learning.validations
    assert len(tried) in (2, 3)
    six, five, seven = (
        learn_token(models, 6, OBJECTS, replace(settings, initial_text=text)).token.vectors["clip_l"]
        for text in ("six", "five", "seven")
    )
    neighbour = five if tried[0].count > 6 else seven
    best = tried.index(learning.best_validation)
    torch.testing.assert_close(learning.token.vectors["clip_l"], six + 0.5 * best * (neighbour - six))


@pytest.mark.slow
def test_distillation_brings_samples_of_the_token_closer_to_the_teacher_prompts(models):
    backbone = models.backbone
    word = learn_token(models, 2, OBJECTS, TOY).token
    target = countgen.Target("apple", 2)
    examples = [Example("a photo of <count-2> apples", "two apples", target, seed) for seed in (5, 6)] * 6
    trained = {key: value.clone().requires_grad_() for key, value in word.vectors.items()}
    optimizer = torch.optim.Adam(trained.values(), lr=0.005)
    steps = list(distill(backbone, "<count-2>", trained, optimizer, examples, examples_per_step=2))
    assert [len(step.examples) for step in steps] == [2] * 6
    latents = backbone.initial_latents([7])  # a seed that no example has

    def sample(vectors):
        with torch.no_grad(), injected(backbone, {"<count-2>": vectors}) as encode:
            return backbone.sample(latents, encode("a photo of <count-2> apples"), [7])

    with torch.no_grad():
        expected = backbone.sample(latents, backbone.encode_prompt("two apples"), [7])
    before, after = ((sample(vectors) - expected).square().mean() for vectors in (word.vectors, trained))
    assert after < 0.8 * before


def test_distilled_vectors_are_kept_if_they_validate_better(models):
    settings = replace(TOY, teacher="{number} {objects}", teacher_steps=1, num_optimization_steps=0)
    learning = learn_token(models, 2, OBJECTS, settings)
    start = learning.token
    list(learning)
    first, second = learning.validations
    kept = torch.equal(learning.token.vectors["clip_l"], start.vectors["clip_l"])
    assert kept == ((first.accuracy, -first.loss) >= (second.accuracy, -second.loss))


def test_the_semantic_loss_is_weighted_and_left_out_at_weight_zero(models):
    calls = []

    def semantic(images, target):
        calls.append((tuple(images.shape), target.object_name))
        return images.mean((1, 2, 3))

    settings = replace(TOY, num_optimization_steps=1, semantic_weight=0.0)
    (without,) = learn_token(models, 3, ("apple",), settings)
    (with_it,) = learn_token(models, 3, ("apple",), replace(settings, semantic_weight=2.0), semantic=semantic)
    assert calls == [((1, 3, 128, 128), "apple")]
    mean = float(with_it.image.mean())
    assert with_it.loss == pytest.approx(without.loss + 2 * (1 - mean), abs=1e-4)


def test_class_confidence_is_lower_for_another_object(models):
    backbone = models.backbone
    with torch.no_grad():
        images = backbone.render(backbone.initial_latents([1]), backbone.encode_prompt("a photo of three apples"))
        semantic = class_confidence(models.critics[0])
        apple, dog = (semantic(images, countgen.Target(name, 3)) for name in ("apple", "dog"))
    assert apple > dog + 0.3


def test_a_trained_token_is_saved_and_used(models, tmp_path):
    learning = learn_token(models, 3, OBJECTS, replace(TOY, num_optimization_steps=1))
    list(learning)
    token = load_token(countgen.save_token(learning.token, tmp_path / "count-3.safetensors"))
    assert token.object_names == OBJECTS
    assert token.critic == "miniature-yolo, miniature-heatmap"
    assert token.config_hash == learning.settings.config_hash
    run = countgen.Run("a photo of three cups", models, method="plain", token=token, max_evaluations=1)
    assert [step.phase for step in run] == ["search"]


IMPOSSIBLE = [
    ((), {}, "at least one"),
    (("aeroplane",), {}, "no class"),
    (OBJECTS, {"num_vectors": 0}, "num_vectors"),
    (OBJECTS, {"templates": ("seven apples",)}, "{number}"),
    (OBJECTS, {"teacher": "seven apples"}, "{number}"),
    (OBJECTS, {"loss": "magic"}, "available: l1"),
    (OBJECTS, {"encoders": ("clip_x",)}, "clip_l, clip_g, t5; got clip_x"),
    (OBJECTS, {"encoders": ("t5",)}, "none of the encoders t5"),
    (OBJECTS, {"learning_rate": 0.0}, "learning_rate"),
    (OBJECTS, {"patience": 0}, "patience"),
]


def test_impossible_training_settings_are_refused(subtests, models):
    for objects, settings, message in IMPOSSIBLE:
        with subtests.test(objects=objects), pytest.raises(ValueError, match=message):
            learn_token(models, 7, objects, LearnSettings(**settings))


def test_a_detector_without_gradient_trains_through_a_density_map(models):
    torch.manual_seed(0)
    counter = DensityCritic(build_counter(len(OBJECT_NAMES)), OBJECT_NAMES)
    critic = DynamicScaleCritic(models.critics[0], counter)
    with_counter = replace(models, critics=(critic,))
    settings = replace(TOY, num_optimization_steps=1)
    with pytest.raises(ValueError, match="set semantic_weight to 0"):
        learn_token(with_counter, 3, ("apple",), settings)
    learning = learn_token(with_counter, 3, ("apple",), settings, semantic=class_confidence(models.critics[0]))
    start = learning.token
    (step,) = learning
    # The soft count is the detector's, a whole number; its gradient is the density map's.
    assert step.soft_counts[0] == pytest.approx(round(step.soft_counts[0]), abs=1e-4)
    assert not torch.equal(learning.state.parameters["clip_l"], start.vectors["clip_l"])


@pytest.mark.slow
def test_the_distillation_gradient_of_a_float16_model_does_not_underflow(models):
    half = backbones.load("miniature", device="cpu", dtype=torch.float16)

    def gradient(backbone):
        vectors = {key: e.vectors_of("two", 1, backbone).requires_grad_() for key, e in encoders_of(backbone).items()}
        latents = backbone.initial_latents([5])
        with torch.no_grad():
            expected = backbone.sample(latents, backbone.encode_prompt("two apples"), [5])
        with injected(backbone, {"<count-2>": vectors}) as encode:
            sample = distillation._sample(backbone, latents, encode("a photo of <count-2> apples"), 5)
        (1e-4 * (sample - expected.float()).square().mean()).backward()
        return torch.cat([value.grad.flatten() for value in vectors.values()])

    # Without gradient scaling float16 rounds the whole gradient to zero.
    assert torch.cosine_similarity(gradient(models.backbone), gradient(half), dim=0) > 0.9
