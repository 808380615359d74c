"""One look at the picture of some latents, and the gradient of its loss: eager, or replayed as CUDA graphs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor

from countgen.backbones import Backbone, PromptEmbeds
from countgen.backbones.cuda_graphs import CapturedFunction, NotCapturedError
from countgen.backbones.memory_check import check
from countgen.methods.objective import Verdict, View, examine
from countgen.prompts import Target
from critics.base import Critic
from critics.losses import LOSSES

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """What every look asks.

    Attributes:
        critics, targets, views: as `examine` takes them.
        loss: a name in `critics.losses.LOSSES`.
    """

    critics: tuple[Critic, ...]
    targets: tuple[Target, ...]
    views: tuple[View, ...]
    loss: str

    def ask(self, images: Tensor) -> Verdict:
        """The critics' verdict on a batch, with gradient where grad mode is on."""
        return examine(images, self.targets, self.critics, self.views, LOSSES[self.loss])


class Drawing(Protocol):
    """Latents to pictures."""

    def look(self, latents: Tensor) -> Tensor:
        """Pictures (B, 3, H, W), detached; the caller's to keep."""

    def gradient(self, of_images: Tensor) -> Tensor:
        """Of the last look's latents, float32 (B, C, h, w), from that of its pictures."""


class Asking(Protocol):
    """Pictures to the critics' verdict."""

    def look(self, images: Tensor) -> Verdict:
        """The verdict, detached; the caller's to keep."""

    def gradient(self) -> Tensor:
        """Of the last look's losses with respect to its pictures (B, 3, H, W)."""


class EagerDrawing:
    """Runs wherever torch runs."""

    def __init__(self, backbone: Backbone, embeds: PromptEmbeds, seeds: Sequence[int], *, draft: bool = False) -> None:
        self._backbone = backbone
        self._embeds = embeds
        self._seeds = seeds
        self._draft = draft

    def look(self, latents: Tensor) -> Tensor:
        with torch.enable_grad():
            self._latents = latents.detach().requires_grad_(True)
            self._images = self._backbone.render(self._latents, self._embeds, self._seeds, draft=self._draft)
        return self._images.detach()

    def gradient(self, of_images: Tensor) -> Tensor:
        return torch.autograd.grad(self._images, self._latents, of_images)[0]


class CapturedDrawing:
    """A pair of CUDA graphs that any prompt and target shares.

    Raises:
        NotCapturedError: it cannot be captured.
    """

    def __init__(self, backbone: Backbone, embeds: PromptEmbeds, batch_size: int, *, draft: bool = False) -> None:
        self._embeds = _tensors(embeds.expand(batch_size))
        latents = torch.zeros((batch_size, *backbone.latent_shape), device=backbone.device).requires_grad_(True)
        shapes = tuple((name, tensor.shape, tensor.dtype) for name, tensor in self._embeds.items())
        sampling = (backbone.num_inference_steps, backbone.guidance_scale, draft)
        self._graph = backbone.captures.get(
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

    def look(self, latents: Tensor) -> Tensor:
        (images,) = self._graph.forward(latents, *self._embeds.values())
        return images.clone()

    def gradient(self, of_images: Tensor) -> Tensor:
        return self._graph.backward(of_images)[0]


class EagerAsking:
    """Runs wherever torch runs.

    Args:
        question: for the critics.
        one_by_one: pictures are asked about one after the other, and their gradient is taken at once, so that the
            critics hold one picture's activations at a time.
    """

    def __init__(self, question: Question, *, one_by_one: bool = False) -> None:
        self._question = question
        self._one_by_one = one_by_one

    def look(self, images: Tensor) -> Verdict:
        if not self._one_by_one:
            verdict, self._gradient = self._ask(images)
            return verdict
        asked = [(verdict, gradient()) for verdict, gradient in map(self._ask, images.split(1))]
        of_images = torch.cat([gradient for _, gradient in asked])
        self._gradient = lambda: of_images
        parts = zip(*(_verdict_tensors(verdict) for verdict, _ in asked), strict=True)
        return Verdict(*map(torch.cat, parts))

    def gradient(self) -> Tensor:
        return self._gradient()

    def _ask(self, images: Tensor) -> tuple[Verdict, Callable[[], Tensor]]:
        with torch.enable_grad():
            images = images.detach().requires_grad_(True)
            verdict = self._question.ask(images)
        loss = verdict.loss
        return replace(verdict, loss=loss.detach()), lambda: torch.autograd.grad(loss, images, torch.ones_like(loss))[0]


class CapturedAsking:
    """A pair of CUDA graphs for one question.

    Raises:
        NotCapturedError: some critic cannot be captured.
    """

    def __init__(self, backbone: Backbone, batch_size: int, question: Question) -> None:
        shape = (batch_size, 3, backbone.height, backbone.width)
        self._graph = backbone.captures.get(
            "verdict",
            (shape, question),
            lambda: CapturedFunction(
                lambda pictures: _verdict_tensors(question.ask(pictures)),
                (torch.zeros(shape, device=backbone.device).requires_grad_(True),),
                with_gradient=True,
            ),
        )

    def look(self, images: Tensor) -> Verdict:
        return Verdict(*(tensor.clone() for tensor in self._graph.forward(images)))

    def gradient(self) -> Tensor:
        return self._graph.backward()[0]


class Iteration:
    """Look first, then ask for the gradient of the same latents, or do not."""

    def __init__(self, drawing: Drawing, asking: Asking) -> None:
        self.drawing = drawing
        self.asking = asking

    def look(self, latents: Tensor) -> tuple[Tensor, Verdict]:
        """Pictures (B, 3, H, W) and the verdict on them, without gradient; both are the caller's to keep."""
        images = self.drawing.look(latents)
        return images, self.asking.look(images)

    def gradient(self) -> Tensor:
        """Of the last look's losses with respect to its latents, float32 (B, C, h, w)."""
        return self.drawing.gradient(self.asking.gradient())


def eager_iteration(
    backbone: Backbone, embeds: PromptEmbeds, seeds: Sequence[int], question: Question, *, draft: bool = False
) -> Iteration:
    """Runs wherever torch runs."""
    drawing = EagerDrawing(backbone, embeds, seeds, draft=draft)
    return Iteration(drawing, EagerAsking(question, one_by_one=backbone.memory == "low"))


def captured_iteration(
    backbone: Backbone, embeds: PromptEmbeds, batch_size: int, question: Question, *, draft: bool = False
) -> Iteration:
    """Both halves as CUDA graphs.

    Raises:
        NotCapturedError: one of them cannot be captured.
    """
    drawing = CapturedDrawing(backbone, embeds, batch_size, draft=draft)
    return Iteration(drawing, CapturedAsking(backbone, batch_size, question))


def prepare(
    backbone: Backbone, embeds: PromptEmbeds, seeds: Sequence[int], question: Question, *, draft: bool = False
) -> Iteration:
    """Replayed CUDA graphs where they can be had, otherwise eager, each half for itself; the log says why.

    Raises:
        DoesNotFitError: the device's memory will not do; it says which option would.
    """
    check(backbone, embeds, len(seeds), question, draft=draft)
    eager = eager_iteration(backbone, embeds, seeds, question, draft=draft)
    if reason := backbone.not_captured_because():
        logger.debug("%s runs without CUDA graphs: %s", backbone.name, reason)
        return eager
    try:
        drawing = CapturedDrawing(backbone, embeds, len(seeds), draft=draft)
    except NotCapturedError as error:
        # A verdict that was captured for an earlier batch holds gigabytes.
        backbone.captures.release()
        logger.warning("%s runs without CUDA graphs: the capture failed: %s", backbone.name, error)
        return eager
    try:
        return Iteration(drawing, CapturedAsking(backbone, len(seeds), question))
    except NotCapturedError as error:
        logger.warning("the critics of %s run without CUDA graphs: the capture failed: %s", backbone.name, error)
        return Iteration(drawing, eager.asking)


def _tensors(embeds: PromptEmbeds) -> dict[str, Tensor]:
    return {field.name: value for field in fields(embeds) if (value := getattr(embeds, field.name)) is not None}


def _verdict_tensors(verdict: Verdict) -> tuple[Tensor, ...]:
    return tuple(getattr(verdict, field.name) for field in fields(verdict))
