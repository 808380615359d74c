"""Check before the first evaluation of a batch that it fits into the device's memory."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

import torch

from countgen.backbones import Backbone, PromptEmbeds
from countgen.backbones.memory_check import check_memory, free_memory, largest_batch
from countgen.backbones.memory_estimate import MemoryEstimate, estimate_memory, kept_by, weights_of
from countgen.errors import DoesNotFitError
from countgen.methods.execution_cache import ExecutionCache
from countgen.methods.objective import Objective

PLENTY = 48 * 1024
"""Bytes per pixel and pass above what any family or critic on three views needs: FLUX, the largest, 20 600 in
bfloat16 and twice that in float32, SDXL-Turbo 7 900, YOLO11x 14 000 (docs/memory.md)."""


def check_gradient_memory(
    backbone: Backbone,
    embeds: PromptEmbeds,
    batch_size: int,
    objective: Objective,
    cache: ExecutionCache,
    *,
    draft: bool = False,
) -> None:
    """Refuse a batch whose forward and backward pass will not fit.

    The estimate takes seconds, and is skipped where far more memory is free than any batch needs.

    Raises:
        DoesNotFitError: the batch will not fit; the message names an option that needs less.
    """
    # The targets change nothing.
    key = (*_batch_key(backbone, batch_size, draft), objective.critics, objective.views)
    if key in cache.fitting:
        return
    # A graph of another batch would be replaced by this one's; until then its memory is not free.
    cache.graphs.release()
    free = free_memory(backbone.device)
    if free is not None and not _plenty(backbone, batch_size, free, objective):
        one = kept_by_critics(backbone, objective)
        need = _estimate(backbone, embeds, batch_size, cache, draft=draft)
        need = replace(need, critics=batch_size * one, critics_low=one)
        check_memory(need, free, backbone.memory, _held(backbone))
    cache.fitting.add(key)


def kept_by_critics(backbone: Backbone, objective: Objective) -> int:
    """Return the bytes that the critics save for the backward pass of one image, measured on one forward pass."""
    image = torch.zeros(1, 3, backbone.height, backbone.width, device=backbone.device).requires_grad_(True)
    return kept_by(lambda: objective.evaluate(image))


def images_at_once(backbone: Backbone, embeds: PromptEmbeds, wanted: int, cache: ExecutionCache) -> int:
    """Return how many images of a batch can be generated together without gradient.

    Raises:
        DoesNotFitError: not even one; the message names an option that needs less.
    """
    free = free_memory(backbone.device, graphs=bool(cache.graphs))
    if free is None or _plenty(backbone, wanted, free):
        return wanted
    need = _estimate(backbone, embeds, 1, cache, draft=False)
    try:
        return min(wanted, largest_batch(need, free, backbone.memory, _held(backbone)))
    except DoesNotFitError:
        # The graphs of an earlier refinement may hold the memory.
        cache.graphs.release()
        free = free_memory(backbone.device) or 0
        return min(wanted, largest_batch(need, free, backbone.memory, _held(backbone)))


def _plenty(backbone: Backbone, batch_size: int, free: int, objective: Objective | None = None) -> bool:
    """Return whether so much memory is free that no estimate is needed."""
    passes = backbone.num_inference_steps * (2 if backbone.guidance_scale > 1 else 1) + 1
    pixels = passes * backbone.height * backbone.width
    for critic in objective.critics if objective else ():
        pixels += max(backbone.height * backbone.width, (getattr(critic, "image_size", None) or 0) ** 2)
    return free > pixels * batch_size * PLENTY


def _held(backbone: Backbone) -> int:
    return weights_of(*backbone.resident())


def _estimate(
    backbone: Backbone, embeds: PromptEmbeds, batch_size: int, cache: ExecutionCache, *, draft: bool
) -> MemoryEstimate:
    key = _batch_key(backbone, batch_size, draft)
    if key not in cache.estimates:
        cache.estimates[key] = estimate_memory(backbone, embeds, batch_size, draft=draft)
    return cache.estimates[key]


def _batch_key(backbone: Backbone, batch_size: int, draft: bool) -> tuple[Hashable, ...]:
    return batch_size, backbone.height, backbone.width, backbone.num_inference_steps, backbone.guidance_scale, draft
