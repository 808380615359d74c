"""Low memory gives the same images and gradients; a run that is out of memory continues with it, and says so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

import countgen
from countgen import backbones
from countgen.backbones.low_memory import retry_with_low_memory
from countgen.backbones.stable_diffusion_xl import StableDiffusionXL
from countgen.errors import DoesNotFitError
from countgen.models import no_larger

PROMPT = "a photo of nine cats"
EVALUATIONS = 5


def test_low_memory_gives_the_same_images_and_gradients() -> None:
    results = []
    for memory in ("fast", "low"):
        # In double precision, so that no processor's rounding decides.
        backbone = backbones.load("miniature", memory=memory, dtype=torch.float64)
        with torch.no_grad():
            embeds = backbone.encode_prompt(PROMPT)
        latents = backbone.initial_latents([3, 4]).requires_grad_(True)
        images = backbone.render(latents, embeds, [3, 4])
        (images * torch.linspace(0, 1, images.shape[-1])).sum().backward()
        results.append((images.detach(), latents.grad))
        assert backbone.memory == memory
    torch.testing.assert_close(results[1], results[0], atol=1e-5, rtol=1e-5)


def test_low_memory_keeps_fewer_activations() -> None:
    backbone = backbones.load("miniature")
    with torch.no_grad():
        embeds = backbone.encode_prompt(PROMPT)
    kept = {"fast": 0, "low": 0}

    def keep(tensor: Tensor) -> Tensor:
        kept[backbone.memory] += tensor.numel()
        return tensor

    latents = backbone.initial_latents([0]).requires_grad_(True)
    for _ in kept:
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            backbone.render(latents, embeds)
        backbone.save_memory()
    assert kept["low"] < kept["fast"] / 4


@pytest.mark.parametrize(("side", "expected"), [(64, 64), (128, 128), (512, 128)])
def test_low_memory_limits_the_critics_image_size_to_the_images(
    side: int, expected: int, models: countgen.Models
) -> None:
    assert no_larger(models.critics[0], side).settings.image_size == expected


def on_the_cpu() -> None:
    torch.empty(2**50)


def on_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Small(StableDiffusionXL):
    """A backbone whose device is too small for images that are rendered with memory="fast"."""

    allocate: Callable[[], None]
    in_backward = False

    def decode(self, *args: Any, **options: Any) -> Tensor:
        images = super().decode(*args, **options)
        if self.in_backward and images.requires_grad:
            images.register_hook(lambda gradient: self.fill())
        elif not self.in_backward:
            self.fill()
        return images

    def fill(self) -> None:
        if self.memory == "fast":
            self.allocate()


def small_models(memory: str, allocate: Callable[[], None], in_backward: bool = False) -> countgen.Models:
    models = countgen.load("miniature", device="cpu", memory=memory)
    backbone = Small(models.backbone.pipeline, models.backbone.preset, "miniature")
    backbone.memory, backbone.allocate, backbone.in_backward = memory, allocate, in_backward
    return replace(models, backbone=backbone)


@pytest.mark.parametrize(
    ("allocate", "method", "in_backward"),
    [(on_the_cpu, "search", False), (on_a_gpu, "noise", False), (on_the_cpu, "noise", True)],
)
def test_a_run_continues_as_if_its_memory_had_been_low(
    allocate: Callable[[], None], method: str, in_backward: bool, caplog: pytest.LogCaptureFixture
) -> None:
    fell_back, low = (
        countgen.generate(
            PROMPT, small_models(memory, allocate, in_backward), method=method, seed=3, max_evaluations=EVALUATIONS
        )
        for memory in ("fast", "low")
    )
    assert fell_back.recipe["memory"] == low.recipe["memory"] == "low"
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        'cpu is out of memory: miniature continues with memory="low", slower'
    ]
    assert fell_back.stopped is None
    assert (fell_back.counts, fell_back.evaluations) == (low.counts, low.evaluations)
    torch.testing.assert_close(fell_back.image, low.image, atol=1e-4, rtol=0)


def test_out_of_memory_with_low_memory_ends_the_run_with_its_best_candidate() -> None:
    models = small_models("low", on_the_cpu)
    backbone: Any = models.backbone
    run = countgen.Run(PROMPT, models, method="search", seed=2, max_evaluations=EVALUATIONS)
    for _ in run:
        backbone.decode = lambda *args, **options: on_the_cpu()
    del backbone.decode
    assert 'with memory="low" too; try a smaller height' in str(run.result().stopped)


def test_other_errors_and_a_second_lack_of_memory_are_raised() -> None:
    backbone = backbones.load("miniature")
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        retry_with_low_memory(backbone, lambda: torch.ones(2, 3) @ torch.ones(2, 3))
    assert backbone.memory == "fast"
    with pytest.raises(DoesNotFitError, match="smaller height and width"):
        retry_with_low_memory(backbone, on_the_cpu)
    assert backbone.memory == "low"
