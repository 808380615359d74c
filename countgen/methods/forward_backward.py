"""Forward pass from latents to an evaluation, and the gradient back: eager, or replayed as CUDA graphs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from countgen.backbones import Backbone, PromptEmbeds
from countgen.backbones.cuda_graphs import CUDAGraphs, TensorFunction
from countgen.backbones.low_memory import retry_with_low_memory
from countgen.critics import Evaluation
from countgen.methods.objective import Objective

logger = logging.getLogger(__name__)


class ForwardBackward:
    """The evaluation of latents, and on request the gradient with respect to the same latents.

    Out of memory, the backbone's `memory` is set to "low" and the pass is repeated, see
    `countgen.backbones.low_memory`.

    Args:
        backbone: renders the images.
        embeds: of one prompt (batch 1).
        seeds: those of the latents.
        objective: of the critics.
        graphs: where CUDA graphs are kept; None to run eagerly.
        draft: decode with the tiny VAE, if there is one.
    """

    def __init__(
        self,
        backbone: Backbone,
        embeds: PromptEmbeds,
        seeds: Sequence[int],
        objective: Objective,
        graphs: CUDAGraphs | None = None,
        *,
        draft: bool = False,
    ) -> None:
        self._backbone = backbone
        self._embeds = embeds.expand(len(seeds)).map(Tensor.detach)
        self._seeds = seeds
        self._objective = objective
        self._graphs = graphs
        self.draft = draft
        self._render: TensorFunction
        self._evaluate: TensorFunction
        self._prepare()

    def forward(self, latents: Tensor, check: Callable[[], object] = lambda: None) -> tuple[Tensor, Evaluation]:
        """Return images (B, 3, H, W) and their evaluation, detached; the next call may overwrite them.

        Args:
            latents: float (B, C, h, w).
            check: called before the images are rendered and before they are evaluated; its error ends the pass.

        Raises:
            DoesNotFitError: the device's memory is too small.
        """
        return retry_with_low_memory(self._backbone, lambda: self._forward(latents, check), self._prepare)

    def backward(self, check: Callable[[], object] = lambda: None) -> Tensor:
        """Return the gradient of the last forward's losses with respect to its latents, float32 (B, C, h, w).

        Args:
            check: called before the gradient of the images and before that of the latents; its error ends the pass.

        Raises:
            DoesNotFitError: the device's memory is too small.
        """

        def repeat_forward() -> None:
            self._prepare()
            self._forward(self._latents, check)

        return retry_with_low_memory(self._backbone, lambda: self._backward(check), repeat_forward)

    def _forward(self, latents: Tensor, check: Callable[[], object]) -> tuple[Tensor, Evaluation]:
        check()
        with torch.enable_grad():
            self._latents = latents.detach().requires_grad_(True)
            (self._images,) = self._render(self._latents, *_tensors(self._embeds).values())
            check()
            evaluation = Evaluation(*self._evaluate(self._images))
        self._loss = evaluation.loss
        return self._images.detach(), replace(evaluation, loss=self._loss.detach())

    def _backward(self, check: Callable[[], object]) -> Tensor:
        check()
        (image_gradient,) = torch.autograd.grad(self._loss, self._images, torch.ones_like(self._loss))
        check()
        return torch.autograd.grad(self._images, self._latents, image_gradient)[0]

    def _prepare(self) -> None:
        """Free what earlier passes hold, and choose between eager passes and CUDA graphs."""
        self._images = self._loss = torch.empty(0)
        # Local names: a captured function outlives this object.
        backbone, objective, seeds, draft = self._backbone, self._objective, self._seeds, self.draft
        names, embeds = zip(*_tensors(self._embeds).items(), strict=True)

        def render(latents: Tensor, *embeds: Tensor) -> tuple[Tensor, ...]:
            given = PromptEmbeds(**dict(zip(names, embeds, strict=True)))
            return (backbone.render(latents, given, seeds, draft=draft),)

        def evaluate(images: Tensor) -> tuple[Tensor, ...]:
            return tuple(_tensors(objective.evaluate(images)).values())

        def evaluate_one_by_one(images: Tensor) -> tuple[Tensor, ...]:
            # Recomputed in the backward pass: the critics hold the activations of one image at a time.
            parts = [checkpoint(evaluate, image, use_reentrant=False) for image in images.split(1)]
            return tuple(map(torch.cat, zip(*parts, strict=True)))

        self._render = render
        self._evaluate = evaluate_one_by_one if backbone.memory == "low" else evaluate
        if self._graphs is None:
            return
        if reason := backbone.cuda_graph_obstacle():
            logger.debug("%s runs without CUDA graphs: %s", backbone.name, reason)
            self._graphs.release()
            return
        latents, images = (
            torch.zeros(len(seeds), *shape, device=backbone.device, requires_grad=True)
            for shape in (backbone.latent_shape, (3, backbone.height, backbone.width))
        )
        shapes = tuple((name, tensor.shape, tensor.dtype) for name, tensor in zip(names, embeds, strict=True))
        sampling = (backbone.num_inference_steps, backbone.guidance_scale, draft)
        inputs = (latents, *embeds)
        self._render = self._graphs.capture("rendering", (latents.shape, shapes, sampling), render, inputs)
        self._evaluate = self._graphs.capture("evaluation", (images.shape, objective), evaluate, (images,))


def _tensors(values: Any) -> dict[str, Tensor]:
    """Return the fields of a dataclass of tensors, without those that are None."""
    return {field.name: value for field in fields(values) if (value := getattr(values, field.name)) is not None}
