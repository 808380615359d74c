"""Teach a token by a prompt that counts better: pictures of the same seeds are made alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from countgen.backbones import Backbone, PromptEmbeds
from countgen.backbones.gradient_scaling import GradientScale
from countgen.prompts import Target
from countgen.tokens.textual_inversion import spliced


@dataclass(frozen=True)
class Lesson:
    """One picture to imitate.

    Attributes:
        prompt: with the placeholder.
        teacher: the prompt whose picture is the model.
        target: what both draw.
        seed: of both.
    """

    prompt: str
    teacher: str
    target: Target
    seed: int


@dataclass(frozen=True)
class Imitation:
    """What one step of imitating came to.

    Attributes:
        lessons: of the step.
        loss: their mean.
        latents: noise of the first lesson, (1, C, h, w).
        drawn: what the token made of it before the step, clean latents without gradient.
    """

    lessons: Sequence[Lesson]
    loss: float
    latents: Tensor
    drawn: Tensor


def imitate(
    backbone: Backbone,
    placeholder: str,
    vectors: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    lessons: Sequence[Lesson],
    *,
    lessons_per_step: int,
    done: int = 0,
) -> Iterator[Imitation]:
    """Move vectors until prompts with them draw what other prompts draw, seed by seed; yields after each step.

    The loss is the mean squared difference of the clean latents. Unlike a count, pictures agree on it, so that few
    steps do; the rate falls to 0 in the course of them.

    Args:
        backbone: stays frozen.
        placeholder: of the token.
        vectors: float32 (V, D) by text encoder; changed in place.
        optimizer: of those that learn; its rate is that of the first step.
        lessons: all of them, the steps done before included.
        lessons_per_step: lessons that make up one step.
        done: steps made before, which are not made again.
    """
    rate = optimizer.defaults["lr"]
    for first in range(done * lessons_per_step, len(lessons), lessons_per_step):
        optimizer.param_groups[0]["lr"] = rate * (1 - first / len(lessons))
        optimizer.zero_grad()
        batch = lessons[first : first + lessons_per_step]
        losses, shown = [], []
        for lesson in batch:
            latents = backbone.initial_latents([lesson.seed])
            with torch.no_grad():
                wanted = backbone.sample(latents, backbone.encode_prompt(lesson.teacher), [lesson.seed])
            with torch.enable_grad():
                with spliced(backbone, {placeholder: vectors}) as encode:
                    embeds = encode(lesson.prompt)
                drawn = _sample(backbone, latents, embeds, lesson.seed)
                loss = (drawn - wanted.float()).square().mean()
                loss.backward()
            losses.append(loss.item())
            shown.append((latents, drawn.detach()))
        optimizer.step()
        yield Imitation(batch, sum(losses) / len(losses), *shown[0])


def _sample(backbone: Backbone, latents: Tensor, embeds: PromptEmbeds, seed: int) -> Tensor:
    """As `backbone.sample`, in float32; a float16 model's gradient to the embeds is kept in range, as in `render`."""
    if backbone.dtype != torch.float16:
        return backbone.sample(latents, embeds, [seed]).float()
    scale = GradientScale()
    embeds = embeds.map(lambda tensor: scale.leave(tensor).to(tensor.dtype) if tensor.requires_grad else tensor)
    return scale.enter(backbone.sample(latents, embeds, [seed]).float())
