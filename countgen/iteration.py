"""One look at the picture of some latents, and the gradient of its loss: eager, or replayed as CUDA graphs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor

from countgen.backbones import Backbone, PromptEmbeds
from countgen.backbones.fit_check import check
from countgen.captured import CapturedFunction, root_cause
from countgen.prompts import Target
from countgen.verdict import Verdict, View, examine
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


class Iteration(Protocol):
    """Look first, then ask for the gradient of the same latents, or do not."""

    def look(self, latents: Tensor) -> tuple[Tensor, Verdict]:
        """Pictures (B, 3, H, W) and the verdict on them, without gradient; both are the caller's to keep."""

    def gradient(self) -> Tensor:
        """Of the last look's losses with respect to its latents, float32 (B, C, h, w)."""


class EagerIteration:
    """Runs wherever torch runs."""

    def __init__(
        self, backbone: Backbone, embeds: PromptEmbeds, seeds: Sequence[int], question: Question, *, draft: bool = False
    ) -> None:
        self._backbone = backbone
        self._embeds = embeds
        self._seeds = seeds
        self._question = question
        self._draft = draft

    def look(self, latents: Tensor) -> tuple[Tensor, Verdict]:
        with torch.enable_grad():
            self._latents = latents.detach().requires_grad_(True)
            images = self._backbone.render(self._latents, self._embeds, self._seeds, draft=self._draft)
            verdict = self._question.ask(images)
        self._loss = verdict.loss
        return images.detach(), replace(verdict, loss=verdict.loss.detach())

    def gradient(self) -> Tensor:
        return torch.autograd.grad(self._loss, self._latents, torch.ones_like(self._loss))[0]


class CapturedIteration:
    """Two pairs of CUDA graphs: latents to pictures, which any prompt and target shares, and pictures to verdict.

    Raises:
        RuntimeError: a part of it cannot be captured (from torch).
    """

    def __init__(
        self, backbone: Backbone, embeds: PromptEmbeds, batch_size: int, question: Question, *, draft: bool
    ) -> None:
        self._embeds = _tensors(embeds.expand(batch_size))
        latents = torch.zeros((batch_size, *backbone.latent_shape), device=backbone.device).requires_grad_(True)
        shapes = tuple((name, tensor.shape, tensor.dtype) for name, tensor in self._embeds.items())
        sampling = (backbone.num_inference_steps, backbone.guidance_scale, draft)
        self._render = backbone.captures.get(
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
        (images,) = self._render.forward(latents, *self._embeds.values())
        self._verdict = backbone.captures.get(
            "verdict",
            (images.shape, question),
            lambda: CapturedFunction(
                lambda pictures: _verdict_tensors(question.ask(pictures)),
                (images.clone().requires_grad_(True),),
                with_gradient=True,
            ),
        )

    def look(self, latents: Tensor) -> tuple[Tensor, Verdict]:
        (images,) = self._render.forward(latents, *self._embeds.values())
        verdict = self._verdict.forward(images)
        return images.clone(), Verdict(*(tensor.clone() for tensor in verdict))

    def gradient(self) -> Tensor:
        (of_images,) = self._verdict.backward()
        return self._render.backward(of_images)[0]


def prepare(
    backbone: Backbone, embeds: PromptEmbeds, seeds: Sequence[int], question: Question, *, draft: bool = False
) -> Iteration:
    """Replayed CUDA graphs where they can be had, otherwise eager; the log says why.

    Raises:
        DoesNotFitError: the device's memory will not do; it says which option would.
    """
    check(backbone, embeds, len(seeds), draft=draft)
    reason = backbone.not_captured_because()
    if reason is None:
        try:
            return CapturedIteration(backbone, embeds, len(seeds), question, draft=draft)
        except RuntimeError as error:
            reason = f"the capture failed: {root_cause(error)}"
            # The half that was captured holds gigabytes, and nothing will replay it.
            backbone.captures.release()
            backbone.captures.refused = reason
            logger.warning("%s runs without CUDA graphs: %s", backbone.name, reason)
    else:
        logger.debug("%s runs without CUDA graphs: %s", backbone.name, reason)
    return EagerIteration(backbone, embeds, seeds, question, draft=draft)


def _tensors(embeds: PromptEmbeds) -> dict[str, Tensor]:
    return {field.name: value for field in fields(embeds) if (value := getattr(embeds, field.name)) is not None}


def _verdict_tensors(verdict: Verdict) -> tuple[Tensor, ...]:
    return tuple(getattr(verdict, field.name) for field in fields(verdict))
