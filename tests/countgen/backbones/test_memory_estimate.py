"""The bytes of a run are counted before it, and what will not fit is refused with what would."""

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
    check_weights,
    drawn_at_once,
    free_memory,
    refuse_what_does_not_fit,
)
from countgen.backbones.memory_estimate import ALIVE, Footprint, footprint
from countgen.errors import DoesNotFitError, StoppedError
from countgen.methods import memory
from countgen.methods.execution_cache import ExecutionCache
from countgen.methods.memory import check_gradient_memory, images_at_once, kept_by_critics
from countgen.methods.objective import CONFIRMATION_VIEWS, PLAIN_VIEW, Objective
from countgen.prompts import Target

NEED = Footprint(weights=5 * GIB, text_encoders=2 * GIB, kept=8 * GIB, kept_low=2 * GIB, drawn=GIB)
NAMES = ["stable_diffusion", "stable_diffusion_xl", "pixart", "flux", "stable_diffusion_3", "sana"]


@pytest.fixture
def backbone(request: pytest.FixtureRequest, tiny_pipeline: Callable[[str], Any]) -> Backbone:
    name = getattr(request, "param", "stable_diffusion_xl")
    module = importlib.import_module(f"countgen.backbones.{name}")
    return module.BACKBONE(tiny_pipeline(name), Preset("tiny", 1, 0.0, 64, 64, "none"), name)


def kept_by(run: Callable[[], object], *modules: nn.Module) -> int:
    """What autograd really keeps, besides the weights of modules."""
    weights = {parameter.untyped_storage().data_ptr() for module in modules for parameter in module.parameters()}
    storages = {}

    def keep(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in weights:
            storages[address] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(tensor.numel() * tensor.element_size() for tensor in storages.values())


@pytest.mark.parametrize("backbone", NAMES, indirect=True)
@pytest.mark.parametrize(("side", "batch_size"), [(64, 2), (16, 1)])  # in a small picture weights would show
def test_the_count_without_contents_equals_what_a_run_keeps(backbone: Backbone, side: int, batch_size: int) -> None:
    backbone.height = backbone.width = side
    with torch.no_grad():
        embeds = backbone.encode_prompt("five apples")
    latents = backbone.initial_latents(range(batch_size)).requires_grad_(True)
    really = kept_by(lambda: backbone.render(latents, embeds), backbone.denoiser, backbone.pipeline.vae)
    need = footprint(backbone, embeds, batch_size)
    assert need.kept == pytest.approx(really, rel=0.02)
    assert 0 < need.kept_low < need.kept
    weights = sum(p.numel() * 4 for part in (backbone.denoiser, backbone.pipeline.vae) for p in part.parameters())
    assert need.weights == weights


@pytest.mark.parametrize("name", NAMES)
def test_low_memory_is_counted_as_fast_is_and_still_recomputes_afterwards(
    name: str, tiny_pipeline: Callable[[str], Any]
) -> None:
    module = importlib.import_module(f"countgen.backbones.{name}")
    pipeline = tiny_pipeline(name)
    # Some schedulers keep the outputs of an earlier test's steps, which cannot be copied.
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    # A copy: it stays in low memory.
    pipeline = copy.deepcopy(pipeline)
    backbone = module.BACKBONE(pipeline, Preset("tiny", 1, 0.0, 64, 64, "none"), name)
    with torch.no_grad():
        embeds = backbone.encode_prompt("five apples")
    fast = footprint(backbone, embeds, 2)
    backbone.save_memory()
    recomputing = [part for part in backbone.denoiser.modules() if getattr(part, "gradient_checkpointing", False)]
    low = footprint(backbone, embeds, 2)
    assert (low.kept_low, low.kept) == (fast.kept_low, fast.kept)
    assert recomputing
    assert all(part.gradient_checkpointing for part in recomputing)


def test_a_pass_without_gradient_needs_far_less_and_grows_with_the_batch(backbone: Backbone) -> None:
    with torch.no_grad():
        embeds = backbone.encode_prompt("five apples")
    one, four = footprint(backbone, embeds, 1), footprint(backbone, embeds, 4)
    assert ALIVE * 64 * 64 * 8 * 4 <= one.drawn < one.kept
    assert four.drawn == pytest.approx(4 * one.drawn, rel=0.05)


def test_as_many_pictures_are_drawn_together_as_fit_and_none_is_refused_with_what_would() -> None:
    assert drawn_at_once(NEED, 12 * GIB, "fast") == 4
    assert drawn_at_once(NEED, 5 * GIB, "fast", held=7 * GIB) == 4
    assert drawn_at_once(NEED, 12 * GIB, "low") == 6
    with pytest.raises(DoesNotFitError, match='memory="low"'):
        drawn_at_once(NEED, 8 * GIB, "fast")
    with pytest.raises(DoesNotFitError, match="smaller height and width"):
        drawn_at_once(NEED, 6 * GIB, "low")


def test_a_refusal_ends_a_run_and_is_bad_input() -> None:
    assert issubclass(DoesNotFitError, StoppedError)
    assert issubclass(DoesNotFitError, ValueError)


def test_counting_leaves_nothing_behind_in_the_backbone(backbone: Backbone) -> None:
    with torch.no_grad():
        embeds = backbone.encode_prompt("five apples")
    footprint(backbone, embeds)
    with torch.no_grad():
        pictures = backbone.render(backbone.initial_latents([0]), embeds)
    assert type(pictures) is Tensor
    assert not backbone.denoiser._forward_pre_hooks
    assert torch.isfinite(pictures).all()


@pytest.mark.parametrize(
    ("free", "memory", "advice"),
    [
        (10 * GIB, "fast", 'memory="low"'),
        (7 * GIB, "fast", "smaller height and width"),
        (7 * GIB, "low", "smaller height and width"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(free: int, memory: str, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        refuse_what_does_not_fit(NEED, free, memory)


def test_what_fits_is_let_through_and_what_is_held_already_counts() -> None:
    refuse_what_does_not_fit(NEED, 16 * GIB, "fast")
    refuse_what_does_not_fit(NEED, 9 * GIB, "fast", held=7 * GIB)
    refuse_what_does_not_fit(NEED, 8 * GIB, "low")
    with pytest.raises(ValueError, match="16"):
        refuse_what_does_not_fit(replace(NEED, kept=8 * GIB), 16 * GIB - 1, "fast")


def test_weights_alone_are_checked_before_they_are_moved(backbone: Backbone) -> None:
    weights = sum(p.numel() * p.element_size() for part in backbone.resident() for p in part.parameters())
    check_weights(backbone, weights + WORKSPACE)
    check_weights(backbone, None)
    with pytest.raises(ValueError, match='memory="low"'):
        check_weights(backbone, weights + WORKSPACE - 1)
    with pytest.raises(ValueError, match="another backbone"):
        check_weights(backbone, 1000)


def test_what_critics_keep_is_counted_without_keeping_it(backbone: Backbone, models: Models) -> None:
    objective = Objective(models.critics, (Target("apple", 5),), CONFIRMATION_VIEWS, "margin")
    picture = torch.zeros(1, 3, 64, 64, requires_grad=True)
    networks = [value for critic in models.critics for value in vars(critic).values() if isinstance(value, nn.Module)]
    really = kept_by(lambda: objective.evaluate(picture), *networks)
    assert kept_by_critics(backbone, objective) == pytest.approx(really, rel=0.02)
    plain = kept_by_critics(backbone, replace(objective, views=PLAIN_VIEW))
    assert 2.5 * plain < kept_by_critics(backbone, objective) < 4 * plain


def test_a_critic_that_does_not_fit_is_refused_unless_it_may_look_at_one_picture_at_a_time() -> None:
    need = replace(NEED, asking=9 * GIB, asking_low=3 * GIB)
    with pytest.raises(DoesNotFitError, match=r"critics' 9.0 or with low memory 3.0.*memory=.low.* 11.0 GiB and does"):
        refuse_what_does_not_fit(need, 12 * GIB, "fast")
    refuse_what_does_not_fit(need, 12 * GIB, "low")


def test_a_small_device_refuses_a_batch_and_draws_what_fits_at_once(
    backbone: Backbone, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = Objective(models.critics, (Target("apple", 5),), CONFIRMATION_VIEWS, "margin")
    with torch.no_grad():
        embeds = backbone.encode_prompt("five apples")
    need = footprint(backbone, embeds, 1)
    one = need.drawn
    monkeypatch.setattr(memory, "free_memory", lambda device, *, graphs=False: WORKSPACE + 3 * one)
    assert images_at_once(backbone, embeds, 8, ExecutionCache()) == 3
    monkeypatch.setattr(memory, "free_memory", lambda device, *, graphs=False: WORKSPACE + one - 1)
    with pytest.raises(DoesNotFitError, match="drawing one picture needs"):
        images_at_once(backbone, embeds, 8, ExecutionCache())
    with pytest.raises(DoesNotFitError, match="that will not fit"):
        check_gradient_memory(backbone, embeds, 8, objective, ExecutionCache())
    asking = kept_by_critics(backbone, objective)
    monkeypatch.setattr(memory, "free_memory", lambda device, *, graphs=False: WORKSPACE + need.kept + asking)
    check_gradient_memory(backbone, embeds, 1, objective, ExecutionCache())


def test_a_cpu_is_not_asked(backbone: Backbone, models: Models) -> None:
    objective = Objective(models.critics, (Target("apple", 5),), CONFIRMATION_VIEWS, "margin")
    with torch.no_grad():
        embeds = backbone.encode_prompt("five apples")
    assert free_memory(torch.device("cpu")) is None
    check_gradient_memory(backbone, embeds, 10**6, objective, ExecutionCache())
    assert images_at_once(backbone, embeds, 10**6, ExecutionCache()) == 10**6
