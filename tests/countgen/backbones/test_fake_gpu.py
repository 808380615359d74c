"""Every family on a GPU that is not there: torch's fake tensors raise where tensors of two devices meet."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from transformers import PreTrainedModel

from countgen.backbones import Backbone, Preset
from tests.countgen.backbones.test_contract import CASES, PROMPT, family

SIDE = 256
DTYPES = (torch.float16, torch.bfloat16)
ENCODED_BY_VALUE = ("z_image",)
"""Families whose text encoding selects tokens by a mask, which has no shape on fake tensors."""
STEPPED_BY_VALUE = ("EulerDiscreteScheduler", "LCMScheduler", "DDPMScheduler")
"""Schedulers that read numbers from their tables in a step; the tables of fake tensors have none."""


@pytest.mark.parametrize("dtype", DTYPES, ids=["float16", "bfloat16"])
@pytest.mark.parametrize("case", CASES)
def test_everything_is_computed_on_the_gpu_in_the_dtype_of_the_backbone(
    case: str, dtype: torch.dtype, tiny_pipeline: Callable[[str], Any]
) -> None:
    name, steps, guidance, timesteps = CASES[case]
    preset = Preset("tiny", steps, guidance, SIDE, SIDE, "none", timesteps=timesteps)
    pipeline = copy.copy(tiny_pipeline(name))
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    real = family(name).BACKBONE(pipeline, preset, name)
    mode = FakeTensorMode(allow_non_fake_inputs=True)  # of the scheduler's tables, which stay on the CPU
    backbone = _on_fake_gpu(real, dtype, mode)
    scheduler = type(backbone.pipeline.scheduler).__name__
    with torch.no_grad():
        shapes = real.encode_prompt(PROMPT)
    with mode, torch.no_grad():
        if name in ENCODED_BY_VALUE:
            embeds = shapes.map(lambda tensor: torch.empty_like(tensor, device="cuda", dtype=dtype))
        else:
            embeds = backbone.encode_prompt(PROMPT)
            assert embeds.map(lambda tensor: tensor.shape) == shapes.map(lambda tensor: tensor.shape)
        assert (embeds.prompt_embeds.device.type, embeds.prompt_embeds.dtype) == ("cuda", dtype)
        latents = backbone.initial_latents([0, 1])
        embeds = embeds.expand(2)
        output = backbone.denoise(latents.to(dtype), torch.ones((), device="cuda"), embeds)
        assert (output.device.type, output.shape) == ("cuda", latents.shape)
        images = [backbone.decode(latents)]
        try:
            images.append(backbone.render(latents, embeds, [0, 1]))
        except (DataDependentOutputException, DynamicOutputShapeException):
            assert scheduler in STEPPED_BY_VALUE
        for image in images:
            assert (image.device.type, image.dtype, image.shape) == ("cuda", torch.float32, (2, 3, SIDE, SIDE))


def _on_fake_gpu(backbone: Backbone, dtype: torch.dtype, mode: FakeTensorMode) -> Backbone:
    """Return a backbone with fake weights on a GPU; the timesteps are set before, since they are numbers."""
    pipeline = copy.copy(backbone.pipeline)
    with mode, torch.device("cuda"), _default_dtype(dtype):
        for name, component in backbone.pipeline.components.items():
            if isinstance(component, PreTrainedModel):
                setattr(pipeline, name, type(component)(component.config))
            elif isinstance(component, torch.nn.Module):
                setattr(pipeline, name, type(component).from_config(component.config))  # type: ignore[attr-defined]
    with mode:
        fake: Any = type(backbone)(pipeline, backbone.preset, backbone.name)
    timesteps, _ = backbone._timesteps(torch.device("cpu"))
    with mode:
        moved = torch.ones(len(timesteps), device="cuda")
    fake._timesteps = lambda device: (list(timesteps), moved)
    return fake  # type: ignore[no-any-return]


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
