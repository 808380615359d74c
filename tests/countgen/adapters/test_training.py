"""Training of an adapter, with few steps, on the embedded models."""

import itertools
from dataclasses import replace

import pytest
import torch

import countgen
from countgen.adapters.file import encoded
from countgen.adapters.settings import AdapterSettings
from countgen.adapters.training import AdapterTraining, prompt_of, try_adapter
from countgen.errors import CheckpointError

TOY = AdapterSettings(
    objects_per_step=1,
    seeds_per_object=1,
    num_optimization_steps=2,
    validate_every=2,
    validation_pictures=2,
    warmup_steps=1,
    channels=8,
)
OBJECTS = ("apple", "dog")


def training(models, checkpoint=None, **changes):
    return AdapterTraining(models, OBJECTS, (3, 4), replace(TOY, **changes), checkpoint)


def test_the_gradient_reaches_every_weight_of_the_network_and_no_other(models):
    run = training(models)
    before = {name: value.clone() for name, value in models.backbone.denoiser.named_parameters()}
    assert not run.adapter.network(torch.randn(1, 4, 32, 32), 3, torch.randn(1, run.config.prompt_dim)).any()
    start = dict(run.state.parameters)
    steps = list(run)
    assert [(step.phase, step.index) for step in steps] == [("train", 0), ("train", 1)]
    assert steps[-1].evaluations == 2 + 2 * 3  # two validation images, two steps with gradient
    # The last layer is zero in the first step, so that the others have a gradient from the second step on.
    unchanged = [name for name, value in run.state.parameters.items() if torch.equal(value, start[name])]
    assert unchanged == []
    assert all(torch.equal(value, before[name]) for name, value in models.backbone.denoiser.named_parameters())


def test_the_loss_of_one_batch_decreases(models):
    run = AdapterTraining(models, ("apple",), (6, 6), replace(TOY, num_optimization_steps=5, validate_every=9))
    run._backward, backward = (lambda parameters, index: backward(parameters, 0)), run._backward
    losses = [step.loss for step in run]
    assert min(losses[1:]) < losses[0]


@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_resumed_run_gives_the_same_adapter(models, tmp_path, bfloat16):
    path = tmp_path / "checkpoint.safetensors"
    whole = training(models, bfloat16=bfloat16)
    losses = [step.loss for step in whole]
    first = [step.loss for step in itertools.islice(training(models, path, bfloat16=bfloat16), 1)]
    rest = training(models, path, bfloat16=bfloat16)
    assert [*first, *(step.loss for step in rest)] == losses
    assert encoded(rest.adapter) == encoded(whole.adapter)
    assert rest.state.evaluations == whole.state.evaluations
    assert rest.validations == whole.validations
    with pytest.raises(CheckpointError, match="another training run"):
        training(models, path, seed=1)


def test_displacement_is_penalised(models):
    run = training(models, displacement_weight=0.5)
    latents = models.backbone.initial_latents([1, 2])
    images = torch.zeros(2, 3, 8, 8)
    target = countgen.Target("apple", 3)
    moved = latents.clone()
    moved[0, 0, 0, 0] += 2
    assert float(run._penalty(latents, images, target, [1, 2])) == 0
    assert float(run._penalty(moved, images, target, [1, 2])) == pytest.approx(0.5 * (4 / 2 + 0) / 2)


def test_the_learning_rate_rises_and_falls_with_what_is_spent(models):
    run = training(models, num_optimization_steps=10, warmup_steps=2, learning_rate=1.0, max_seconds=100.0)
    rates = []
    for run.state.step in (0, 1, 5, 9):
        rates.append(run._learning_rate)
    assert rates == pytest.approx([0.5, 0.9, 0.5, 0.1])
    run.state.seconds = 80.0
    run.state.step = 5
    assert run._learning_rate == pytest.approx(0.2)
    assert not run._finished
    run.state.seconds = 100.0
    assert run._finished


def test_training_ends_after_its_seconds_with_a_validation(models):
    run = training(models, num_optimization_steps=50, validate_every=50, max_seconds=0.001)
    list(run)
    assert run.state.step <= 1
    assert [one.step for one in run.validations] == [0, 1][: run.state.step + 1]


def test_the_best_weights_by_validation_are_kept_and_patience_ends_training(models):
    run = training(models, num_optimization_steps=50, validate_every=1, patience=2, learning_rate=10.0)
    assert len(list(run)) < 50
    assert run.best_validation.rank == max(one.rank for one in run.validations)
    assert run.state.validations_since_best == 2


def test_batches_have_every_object_and_every_count(models):
    run = training(models)
    assert [(one.object_name, one.target_count) for one in run.targets] == [
        *(("apple", 3), ("apple", 4), ("dog", 3), ("dog", 4))
    ]
    assert prompt_of(TOY.templates[-1], run.targets[0]) == "three apples"


def test_a_class_agnostic_network_moves_noise_alike_for_all_prompts(models):
    run = training(models, reads_prompt=False, num_optimization_steps=1)
    list(run)
    adapter = replace(run.adapter, weights={k: v + 0.1 for k, v in run.adapter.weights.items()})
    backbone, latents = models.backbone, models.backbone.initial_latents([1])
    with torch.no_grad():
        moved = [
            adapter.move(backbone, latents, (countgen.Target(name, 3),), backbone.encode_prompt(f"three {name}s"), [1])
            for name in OBJECTS
        ]
    assert torch.equal(*moved)


def test_impossible_trainings_are_refused(models, subtests):
    for objects, counts, changes, message in (
        ((), (3, 4), {}, "at least one object class"),
        (("aeroplane",), (3, 4), {}, "no class"),
        (OBJECTS, (4, 3), {}, "counts must be"),
        (OBJECTS, (3, 4), {"channels": 9}, "multiple of 8"),
        (OBJECTS, (3, 4), {"learning_rate": 0.0}, "learning_rate"),
        (OBJECTS, (3, 4), {"max_seconds": 0.0}, "max_seconds"),
        (OBJECTS, (3, 4), {"warmup_steps": 0}, "warmup_steps"),
        (OBJECTS, (3, 4), {"displacement_weight": -1.0}, "displacement_weight"),
    ):
        with subtests.test(message=message), pytest.raises(ValueError, match=message):
            AdapterTraining(models, objects, counts, AdapterSettings(**changes))


def test_the_trial_compares_with_the_same_seeds_without_the_adapter(models):
    accuracy, plain = try_adapter(models, training(models).adapter, num_images=3)
    assert accuracy == plain  # an untrained adapter moves nothing
