"""Check that a model's components fit each other and its scheduler, before a run begins."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from countgen.backbones.base import Backbone
from countgen.backbones.model_files import readable


def check_sampling(backbone: Backbone) -> None:
    """Raise unless an image can be sampled.

    A short prompt is encoded, the denoiser and the VAE are run on fake tensors, which take no memory, and the scheduler
    steps through latents of zeros.

    Raises:
        ValueError: a component or the scheduler does not fit; the message names it, and the library's reason.
    """
    sampler = backbone.uncached_copy()
    with torch.no_grad(), readable(f"{backbone.name} cannot encode a prompt"):
        embeds = backbone.encode_prompt("a")
    with torch.no_grad(), readable(f"{type(backbone.pipeline.scheduler).__name__} does not fit {backbone.name}"):
        sampler.pipeline = copy.copy(backbone.pipeline)
        sampler.pipeline.scheduler = copy.deepcopy(backbone.pipeline.scheduler)
        zeros = torch.zeros(1, *backbone.latent_shape, device=backbone.device)
        sampler.denoise = sampler.predict = lambda latents, timestep, embeds: latents  # type: ignore[method-assign]
        if not sampler.sample(zeros, embeds, [0]).shape == zeros.shape:
            raise ValueError("its samples have another shape than the latents")
    with torch.no_grad(), readable(f"{backbone.name} cannot render an image"), _fake_tensors():
        model = backbone.uncached_copy()
        latents = torch.empty(1, *backbone.latent_shape, device=backbone.device)
        timestep = torch.ones((), device=backbone.device)
        model.denoise(latents.to(backbone.dtype), timestep, embeds.map(torch.empty_like))
        model.decode(latents)


@contextmanager
def _fake_tensors() -> Iterator[None]:
    """Compute shapes instead of values; torch's log of what fails is off, since the error says it too."""
    logger = logging.getLogger(FakeTensorMode.__module__)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        logger.setLevel(level)
