"""Forward pass from latents to an evaluation, and the gradient back: eager, or replayed as CUDA graphs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Protocol

import torch
from torch import Tensor

from countgen.backbones import Backbone, PromptEmbeds
from countgen.backbones.cuda_graphs import CapturedFunction, CUDAGraphs, NotCapturedError
from countgen.critics import Evaluation
from countgen.methods.execution_cache import ExecutionCache
from countgen.methods.memory import check_gradient_memory
from countgen.methods.objective import Objective

logger = logging.getLogger(__name__)


class Renderer(Protocol):
    """A function from latents to images, with its vector-Jacobian product."""

    def forward(self, latents: Tensor) -> Tensor:
        """Return images (B, 3, H, W), detached copies."""

    def backward(self, image_gradient: Tensor) -> Tensor:
        """Return the vector-Jacobian product at the last forward's latents, float32 (B, C, h, w)."""


class Evaluator(Protocol):
    """A function from images to their evaluation, with its gradient."""

    def forward(self, images: Tensor) -> Evaluation:
        """Return the evaluation, detached copies."""

    def backward(self) -> Tensor:
        """Return the gradient of the last forward's losses with respect to its images (B, 3, H, W)."""


class EagerRenderer:
    """A renderer without CUDA graphs, for any device."""

    def __init__(self, backbone: Backbone, embeds: PromptEmbeds, seeds: Sequence[int], *, draft: bool = False) -> None:
        self._backbone = backbone
        self._embeds = embeds
        self._seeds = seeds
        self._draft = draft

    def forward(self, latents: Tensor) -> Tensor:
        with torch.enable_grad():
            self._latents = latents.detach().requires_grad_(True)
            self._images = self._backbone.render(self._latents, self._embeds, self._seeds, draft=self._draft)
        return self._images.detach()

    def backward(self, image_gradient: Tensor) -> Tensor:
        return torch.autograd.grad(self._images, self._latents, image_gradient)[0]


class GraphRenderer:
    """A renderer that replays a pair of CUDA graphs, which all prompts and targets share.

    Raises:
        NotCapturedError: rendering cannot be captured.
    """

    def __init__(
        self, backbone: Backbone, embeds: PromptEmbeds, batch_size: int, graphs: CUDAGraphs, *, draft: bool = False
    ) -> None:
        self._embeds = _tensors(embeds.expand(batch_size))
        latents = torch.zeros((batch_size, *backbone.latent_shape), device=backbone.device).requires_grad_(True)
        shapes = tuple((name, tensor.shape, tensor.dtype) for name, tensor in self._embeds.items())
        sampling = (backbone.num_inference_steps, backbone.guidance_scale, draft)
        self._graph = graphs.get(
            "render",
            (latents.shape, shapes, sampling),
            lambda: CapturedFunction(
                lambda noise, *values: (
                    backbone.render(noise, PromptEmbeds(**dict(zip(self._embeds, values, strict=True))), draft=draft),
                ),
                (latents, *(tensor.detach() for tensor in self._embeds.values())),
                with_gradient=True,
            ),
        )

    def forward(self, latents: Tensor) -> Tensor:
        (images,) = self._graph.forward(latents, *self._embeds.values())
        return images.clone()

    def backward(self, image_gradient: Tensor) -> Tensor:
        return self._graph.backward(image_gradient)[0]


class EagerEvaluator:
    """An evaluator without CUDA graphs, for any device.

    Args:
        objective: of the critics.
        one_by_one: evaluate images one after the other and compute the gradient of each immediately, so that the
            critics hold one image's activations at a time.
    """

    def __init__(self, objective: Objective, *, one_by_one: bool = False) -> None:
        self._objective = objective
        self._one_by_one = one_by_one

    def forward(self, images: Tensor) -> Evaluation:
        if not self._one_by_one:
            evaluation, self._gradient = self._evaluate(images)
            return evaluation
        parts = [(evaluation, gradient()) for evaluation, gradient in map(self._evaluate, images.split(1))]
        image_gradient = torch.cat([gradient for _, gradient in parts])
        self._gradient = lambda: image_gradient
        return Evaluation(*map(torch.cat, zip(*(_values(evaluation) for evaluation, _ in parts), strict=True)))

    def backward(self) -> Tensor:
        return self._gradient()

    def _evaluate(self, images: Tensor) -> tuple[Evaluation, Callable[[], Tensor]]:
        with torch.enable_grad():
            images = images.detach().requires_grad_(True)
            evaluation = self._objective.evaluate(images)
        loss = evaluation.loss
        detached = replace(evaluation, loss=loss.detach())
        return detached, lambda: torch.autograd.grad(loss, images, torch.ones_like(loss))[0]


class GraphEvaluator:
    """An evaluator that replays a pair of CUDA graphs of one objective.

    Raises:
        NotCapturedError: some critic cannot be captured.
    """

    def __init__(self, backbone: Backbone, batch_size: int, objective: Objective, graphs: CUDAGraphs) -> None:
        shape = (batch_size, 3, backbone.height, backbone.width)
        self._graph = graphs.get(
            "evaluate",
            (shape, objective),
            lambda: CapturedFunction(
                lambda images: _values(objective.evaluate(images)),
                (torch.zeros(shape, device=backbone.device).requires_grad_(True),),
                with_gradient=True,
            ),
        )

    def forward(self, images: Tensor) -> Evaluation:
        return Evaluation(*(tensor.clone() for tensor in self._graph.forward(images)))

    def backward(self) -> Tensor:
        return self._graph.backward()[0]


class ForwardBackward:
    """The evaluation of latents, and on request the gradient with respect to the same latents."""

    def __init__(self, renderer: Renderer, evaluator: Evaluator) -> None:
        self.renderer = renderer
        self.evaluator = evaluator

    def forward(self, latents: Tensor, check: Callable[[], object] = lambda: None) -> tuple[Tensor, Evaluation]:
        """Return images (B, 3, H, W) and their evaluation, detached copies.

        Args:
            latents: float (B, C, h, w).
            check: called before the images are rendered and before they are evaluated; its error ends the pass.
        """
        check()
        images = self.renderer.forward(latents)
        check()
        return images, self.evaluator.forward(images)

    def backward(self, check: Callable[[], object] = lambda: None) -> Tensor:
        """Return the gradient of the last forward's losses with respect to its latents, float32 (B, C, h, w).

        Args:
            check: called before the gradient of the images and before that of the latents; its error ends the pass.
        """
        check()
        image_gradient = self.evaluator.backward()
        check()
        return self.renderer.backward(image_gradient)


def eager(
    backbone: Backbone, embeds: PromptEmbeds, seeds: Sequence[int], objective: Objective, *, draft: bool = False
) -> ForwardBackward:
    """Return the passes without CUDA graphs, for any device."""
    renderer = EagerRenderer(backbone, embeds, seeds, draft=draft)
    return ForwardBackward(renderer, EagerEvaluator(objective, one_by_one=backbone.memory == "low"))


def captured(
    backbone: Backbone,
    embeds: PromptEmbeds,
    batch_size: int,
    objective: Objective,
    graphs: CUDAGraphs,
    *,
    draft: bool = False,
) -> ForwardBackward:
    """Return the passes as CUDA graphs.

    Raises:
        NotCapturedError: one of them cannot be captured.
    """
    renderer = GraphRenderer(backbone, embeds, batch_size, graphs, draft=draft)
    return ForwardBackward(renderer, GraphEvaluator(backbone, batch_size, objective, graphs))


def prepare(
    backbone: Backbone,
    embeds: PromptEmbeds,
    seeds: Sequence[int],
    objective: Objective,
    cache: ExecutionCache,
    *,
    draft: bool = False,
) -> ForwardBackward:
    """Return CUDA graphs where they can be captured, otherwise eager passes, for each half; the log gives the reason.

    Raises:
        DoesNotFitError: the device's memory is too small; the message names an option that needs less.
    """
    check_gradient_memory(backbone, embeds, len(seeds), objective, cache, draft=draft)
    fallback = eager(backbone, embeds, seeds, objective, draft=draft)
    if reason := backbone.cuda_graph_obstacle():
        logger.debug("%s runs without CUDA graphs: %s", backbone.name, reason)
        return fallback
    try:
        renderer = GraphRenderer(backbone, embeds, len(seeds), cache.graphs, draft=draft)
    except NotCapturedError as error:
        # A graph that was captured for an earlier batch holds gigabytes.
        cache.graphs.release()
        logger.warning("%s runs without CUDA graphs: the capture failed: %s", backbone.name, error)
        return fallback
    try:
        return ForwardBackward(renderer, GraphEvaluator(backbone, len(seeds), objective, cache.graphs))
    except NotCapturedError as error:
        logger.warning("the critics of %s run without CUDA graphs: the capture failed: %s", backbone.name, error)
        return ForwardBackward(renderer, fallback.evaluator)


def _tensors(embeds: PromptEmbeds) -> dict[str, Tensor]:
    return {field.name: value for field in fields(embeds) if (value := getattr(embeds, field.name)) is not None}


def _values(evaluation: Evaluation) -> tuple[Tensor, ...]:
    return tuple(getattr(evaluation, field.name) for field in fields(evaluation))
