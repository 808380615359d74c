"""The memory estimate of a step, and the memory check that refuses a step that does not fit."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from countgen import Models
from countgen.backbones import Backbone, Preset
from countgen.backbones.memory_check import (
    GIB,
    WORKSPACE,
    check_memory,
    check_weights,
    free_memory,
    largest_batch,
)
from countgen.backbones.memory_estimate import ALIVE, MemoryEstimate, estimate_memory
from countgen.errors import DoesNotFitError, StoppedError
from countgen.methods import memory
from countgen.methods.execution_cache import ExecutionCache
from countgen.methods.memory import check_gradient_memory, images_at_once, kept_by_critics
from countgen.methods.objective import CONFIRMATION_VIEWS, PLAIN_VIEW, Objective
from countgen.prompts import Target

NEED = MemoryEstimate(weights=5 * GIB, text_encoders=2 * GIB, kept=8 * GIB, kept_low=2 * GIB, rendered=GIB)
NAMES = ["stable_diffusion", "stable_diffusion_xl", "pixart", "flux", "stable_diffusion_3", "sana", "z_image", "flux2"]


@pytest.fixture
def backbone(request: pytest.FixtureRequest, tiny_pipeline: Callable[[str], Any]) -> Backbone:
    name = getattr(request, "param", "stable_diffusion_xl")
    module = importlib.import_module(f"countgen.backbones.{name}")
    return module.BACKBONE(tiny_pipeline(name), Preset("tiny", 1, 0.0, 64, 64, "none"), name)


def kept_by(run: Callable[[], object], *modules: nn.Module) -> int:
    """Return the bytes that autograd keeps during a call, without the weights of modules."""
    weights = {parameter.untyped_storage().data_ptr() for module in modules for parameter in module.parameters()}
    storages = {}

    def keep(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in weights:
            storages[address] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())


@pytest.mark.parametrize("backbone", NAMES, indirect=True)
@pytest.mark.parametrize(
    ("side", "batch_size"), [(64, 2), (16, 1)]
)  # with a small image, counting weights too would be noticed
def test_the_estimate_equals_what_a_forward_pass_keeps(backbone: Backbone, side: int, batch_size: int) -> None:
    backbone.height = backbone.width = side
    with torch.no_grad():
        embeds = backbone.encode_prompt("five apples")
    latents = backbone.initial_latents(range(batch_size)).requires_grad_(True)
    measured = kept_by(lambda: backbone.render(latents, embeds), backbone.denoiser, backbone.pipeline.vae)
    need = estimate_memory(backbone, embeds, batch_size)
    assert need.kept == pytest.approx(measured, rel=0.02)
    assert 0 < need.kept_low < need.kept
    weights = sum(p.numel() * 4 for part in (backbone.denoiser, backbone.pipeline.vae) for p in part.parameters())
    assert need.weights == weights


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_estimate_does_not_depend_on_low_memory_and_leaves_it_on(
    name: str, tiny_pipeline: Callable[[str], Any]
) -> None:
    module = importlib.import_module(f"countgen.backbones.{name}")
    pipeline = tiny_pipeline(name)
    # Some schedulers keep the outputs of an earlier test's steps, which cannot be copied.
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    # A copy, because low memory cannot be switched off.
    pipeline = copy.deepcopy(pipeline)
    backbone = module.BACKBONE(pipeline, Preset("tiny", 1, 0.0, 64, 64, "none"), name)
    with torch.no_grad():
        embeds = backbone.encode_prompt("five apples")
    fast = estimate_memory(backbone, embeds, 2)
    backbone.save_memory()
    recomputing = [part for part in backbone.denoiser.modules() if getattr(part, "gradient_checkpointing", False)]
    low = estimate_memory(backbone, embeds, 2)
    assert (low.kept_low, low.kept) == (fast.kept_low, fast.kept)
    assert recomputing
    assert all(part.gradient_checkpointing for part in recomputing)


def test_a_pass_without_gradient_needs_less_and_grows_with_the_batch(backbone: Backbone) -> None:
    with torch.no_grad():
        embeds = backbone.encode_prompt("five apples")
    one, four = estimate_memory(backbone, embeds, 1), estimate_memory(backbone, embeds, 4)
    assert ALIVE * 64 * 64 * 8 * 4 <= one.rendered < one.kept
    assert four.rendered == pytest.approx(4 * one.rendered, rel=0.05)


def test_the_largest_batch_is_what_fits_and_none_is_refused_with_advice() -> None:
    assert largest_batch(NEED, 12 * GIB, "fast") == 4
    assert largest_batch(NEED, 5 * GIB, "fast", held=7 * GIB) == 4
    assert largest_batch(NEED, 12 * GIB, "low") == 6
    with pytest.raises(DoesNotFitError, match='memory="low"'):
        largest_batch(NEED, 8 * GIB, "fast")
    with pytest.raises(DoesNotFitError, match="smaller height and width"):
        largest_batch(NEED, 6 * GIB, "low")


def test_does_not_fit_error_is_a_stopped_error_and_a_value_error() -> None:
    assert issubclass(DoesNotFitError, StoppedError)
    assert issubclass(DoesNotFitError, ValueError)


def test_the_estimate_leaves_the_backbone_unchanged(backbone: Backbone) -> None:
    with torch.no_grad():
        embeds = backbone.encode_prompt("five apples")
    estimate_memory(backbone, embeds)
    with torch.no_grad():
        images = backbone.render(backbone.initial_latents([0]), embeds)
    assert type(images) is Tensor
    assert not backbone.denoiser._forward_pre_hooks
    assert torch.isfinite(images).all()


@pytest.mark.parametrize(
    ("free", "memory", "advice"),
    [
        (10 * GIB, "fast", 'memory="low"'),
        (7 * GIB, "fast", "smaller height and width"),
        (7 * GIB, "low", "smaller height and width"),
    ],
)
def test_a_step_that_does_not_fit_is_refused_with_advice(free: int, memory: str, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        check_memory(NEED, free, memory)


def test_a_step_that_fits_is_accepted_and_memory_already_held_counts() -> None:
    check_memory(NEED, 16 * GIB, "fast")
    check_memory(NEED, 9 * GIB, "fast", held=7 * GIB)
    check_memory(NEED, 8 * GIB, "low")
    with pytest.raises(ValueError, match="16"):
        check_memory(replace(NEED, kept=8 * GIB), 16 * GIB - 1, "fast")


def test_weights_that_do_not_fit_are_refused_before_they_are_moved(backbone: Backbone) -> None:
    weights = sum(p.numel() * p.element_size() for part in backbone.resident() for p in part.parameters())
    check_weights(backbone, weights + WORKSPACE)
    check_weights(backbone, None)
    with pytest.raises(ValueError, match='memory="low"'):
        check_weights(backbone, weights + WORKSPACE - 1)
    with pytest.raises(ValueError, match="another backbone"):
        check_weights(backbone, 1000)


def test_the_estimate_of_the_critics_equals_what_they_keep(backbone: Backbone, models: Models) -> None:
    objective = Objective(models.critics, (Target("apple", 5),), CONFIRMATION_VIEWS, "margin")
    image = torch.zeros(1, 3, 64, 64, requires_grad=True)
    networks = [value for critic in models.critics for value in vars(critic).values() if isinstance(value, nn.Module)]
    measured = kept_by(lambda: objective.evaluate(image), *networks)
    assert kept_by_critics(backbone, objective) == pytest.approx(measured, rel=0.02)
    plain = kept_by_critics(backbone, replace(objective, views=PLAIN_VIEW))
    assert 2.5 * plain < kept_by_critics(backbone, objective) < 4 * plain


def test_critics_that_do_not_fit_are_refused_unless_they_evaluate_one_image_at_a_time() -> None:
    need = replace(NEED, critics=9 * GIB, critics_low=3 * GIB)
    with pytest.raises(DoesNotFitError, match=r"critics' 9.0 or with low memory 3.0.*memory=.low.* 11.0 GiB and fits"):
        check_memory(need, 12 * GIB, "fast")
    check_memory(need, 12 * GIB, "low")


def test_a_small_device_limits_the_batch_and_refuses_gradients_that_do_not_fit(
    backbone: Backbone, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = Objective(models.critics, (Target("apple", 5),), CONFIRMATION_VIEWS, "margin")
    with torch.no_grad():
        embeds = backbone.encode_prompt("five apples")
    need = estimate_memory(backbone, embeds, 1)
    one = need.rendered
    monkeypatch.setattr(memory, "free_memory", lambda device, *, graphs=False: WORKSPACE + 3 * one)
    assert images_at_once(backbone, embeds, 8, ExecutionCache()) == 3
    monkeypatch.setattr(memory, "free_memory", lambda device, *, graphs=False: WORKSPACE + one - 1)
    with pytest.raises(DoesNotFitError, match="generating one image needs"):
        images_at_once(backbone, embeds, 8, ExecutionCache())
    with pytest.raises(DoesNotFitError, match="that will not fit"):
        check_gradient_memory(backbone, embeds, 8, objective, ExecutionCache())
    critics = kept_by_critics(backbone, objective)
    monkeypatch.setattr(memory, "free_memory", lambda device, *, graphs=False: WORKSPACE + need.kept + critics)
    check_gradient_memory(backbone, embeds, 1, objective, ExecutionCache())


def test_a_cpu_has_no_memory_check(backbone: Backbone, models: Models) -> None:
    objective = Objective(models.critics, (Target("apple", 5),), CONFIRMATION_VIEWS, "margin")
    with torch.no_grad():
        embeds = backbone.encode_prompt("five apples")
    assert free_memory(torch.device("cpu")) is None
    check_gradient_memory(backbone, embeds, 10**6, objective, ExecutionCache())
    assert images_at_once(backbone, embeds, 10**6, ExecutionCache()) == 10**6
