"""A run that is out of memory continues with memory="low", and says so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import Function

import countgen
from countgen import backbones
from countgen.backbones.low_memory import retry_with_low_memory
from countgen.backbones.stable_diffusion_xl import StableDiffusionXL
from countgen.errors import DoesNotFitError

PROMPT = "a photo of nine cats"
EVALUATIONS = 8


def on_the_cpu() -> None:
    torch.empty(2**50)


def on_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Small(StableDiffusionXL):
    """A backbone whose device is too small for images that are rendered with memory="fast"."""

    allocate: Callable[[], None]
    in_backward = False
    rendered = 0

    def render(self, *args: Any, **options: Any) -> Tensor:
        self.rendered += 1
        if self.in_backward:
            return AllocateInBackward.apply(super().render(*args, **options), self)
        if self.memory == "fast":
            self.allocate()
        return super().render(*args, **options)


class AllocateInBackward(Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, backbone: Small) -> Tensor:
        ctx.backbone = backbone
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        if ctx.backbone.memory == "fast":
            ctx.backbone.allocate()
        return gradient, None


def small_models(memory: str = "fast") -> countgen.Models:
    models = countgen.load("miniature", device="cpu", memory=memory)
    backbone = Small(models.backbone.pipeline, models.backbone.preset, "miniature")
    backbone.memory = memory
    return replace(models, backbone=backbone)


@pytest.mark.parametrize(
    ("allocate", "method", "in_backward"),
    [(on_the_cpu, "search", False), (on_a_gpu, "noise", False), (on_the_cpu, "noise", True)],
)
def test_a_run_continues_as_if_its_memory_had_been_low(
    allocate: Callable[[], None], method: str, in_backward: bool, caplog: pytest.LogCaptureFixture
) -> None:
    results = []
    for memory in ("fast", "low"):
        models = small_models(memory)
        models.backbone.allocate, models.backbone.in_backward = allocate, in_backward  # type: ignore[attr-defined]
        results.append(countgen.generate(PROMPT, models, method=method, seed=3, max_evaluations=EVALUATIONS))
    fell_back, low = results
    assert fell_back.recipe["memory"] == low.recipe["memory"] == "low"
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        'cpu is out of memory: miniature continues with memory="low", slower'
    ]
    assert fell_back.stopped is None
    assert (fell_back.counts, fell_back.evaluations) == (low.counts, low.evaluations)
    torch.testing.assert_close(fell_back.image, low.image, atol=1e-4, rtol=0)


def test_out_of_memory_with_low_memory_ends_the_run_with_its_best_candidate() -> None:
    models = small_models("low")
    backbone: Any = models.backbone
    backbone.allocate = on_the_cpu
    run = countgen.Run(PROMPT, models, method="search", seed=2, max_evaluations=EVALUATIONS)
    for _ in run:
        backbone.memory = "low"
        backbone.render = lambda *args, **options: on_the_cpu()
    del backbone.render
    assert run.result().stopped is not None
    assert 'with memory="low" too; try a smaller height' in str(run.result().stopped)


def test_other_errors_and_a_second_lack_of_memory_are_raised() -> None:
    backbone = backbones.load("miniature")
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        retry_with_low_memory(backbone, lambda: torch.ones(2, 3) @ torch.ones(2, 3))
    assert backbone.memory == "fast"
    with pytest.raises(DoesNotFitError, match="smaller height and width"):
        retry_with_low_memory(backbone, on_the_cpu)
    assert backbone.memory == "low"
