"""Distillation of a prompt into a token: the token's prompt shall give the images of a prompt that counts better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from countgen.backbones import Backbone, PromptEmbeds
from countgen.backbones.gradient_scaling import GradientScale
from countgen.prompts import Target
from countgen.tokens.textual_inversion import injected


@dataclass(frozen=True)
class Example:
    """One training example of the distillation.

    Attributes:
        prompt: prompt with the placeholder.
        teacher_prompt: prompt whose sample is the regression target.
        target: object and count of both prompts.
        seed: seed of both samples.
    """

    prompt: str
    teacher_prompt: str
    target: Target
    seed: int


@dataclass(frozen=True)
class DistillationStep:
    """The result of one distillation step.

    Attributes:
        examples: examples of the step.
        loss: mean loss of the examples.
        latents: initial noise of the first example, (1, C, h, w).
        sample: clean latents of the first example before the update, without gradient.
    """

    examples: Sequence[Example]
    loss: float
    latents: Tensor
    sample: Tensor


def distill(
    backbone: Backbone,
    placeholder: str,
    vectors: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    examples: Sequence[Example],
    *,
    examples_per_step: int,
    completed_steps: int = 0,
) -> Iterator[DistillationStep]:
    """Train vectors until prompts with them give the samples of the teacher prompts; yield after each step.

    The loss is the mean squared difference of the clean latents. Its gradients agree across images, unlike those of a
    count loss, so that few steps are enough. The learning rate falls linearly to 0.

    Args:
        backbone: stays frozen.
        placeholder: placeholder of the token.
        vectors: float32 (V, D) by text encoder; changed in place.
        optimizer: optimizer of the vectors that are trained; its learning rate is that of the first step.
        examples: all examples, including those of the completed steps.
        examples_per_step: number of examples in a step.
        completed_steps: steps of an earlier run, which are skipped.
    """
    rate = optimizer.defaults["lr"]
    for first in range(completed_steps * examples_per_step, len(examples), examples_per_step):
        optimizer.param_groups[0]["lr"] = rate * (1 - first / len(examples))
        optimizer.zero_grad()
        batch = examples[first : first + examples_per_step]
        losses, samples = [], []
        for example in batch:
            latents = backbone.initial_latents([example.seed])
            with torch.no_grad():
                expected = backbone.sample(latents, backbone.encode_prompt(example.teacher_prompt), [example.seed])
            with torch.enable_grad():
                with injected(backbone, {placeholder: vectors}) as encode:
                    embeds = encode(example.prompt)
                sample = _sample(backbone, latents, embeds, example.seed)
                loss = (sample - expected.float()).square().mean()
                loss.backward()
            losses.append(loss.item())
            samples.append((latents, sample.detach()))
        optimizer.step()
        yield DistillationStep(batch, sum(losses) / len(losses), *samples[0])


def _sample(backbone: Backbone, latents: Tensor, embeds: PromptEmbeds, seed: int) -> Tensor:
    """Return `backbone.sample` in float32, with gradient scaling for float16 models as in `render`."""
    if backbone.dtype != torch.float16:
        return backbone.sample(latents, embeds, [seed]).float()
    scale = GradientScale()
    embeds = scale.unscale_embeds(embeds)
    return scale.scale_gradient(backbone.sample(latents, embeds, [seed]).float())
