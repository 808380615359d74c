"""Teach a token by a prompt that counts better: pictures of the same seeds are made alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from countgen.backbones import Backbone
from countgen.spliced import spliced


def imitate(
    backbone: Backbone,
    placeholder: str,
    vectors: Mapping[str, Tensor],
    lessons: Sequence[tuple[str, str, int]],
    *,
    pictures_per_step: int,
    learning_rate: float,
) -> dict[str, Tensor]:
    """Vectors with which prompts draw what other prompts draw, seed by seed.

    The loss is the mean squared difference of the clean latents. Unlike a count, pictures agree on it, so that few
    steps do; the rate falls to 0 in the course of them.

    Args:
        backbone: stays frozen.
        placeholder: of the token.
        vectors: to start from, float32 (V, D) by text encoder.
        lessons: prompt with the placeholder, prompt to imitate, seed.
        pictures_per_step: lessons that make up one step.
        learning_rate: of Adam in the first step.
    """
    learned = {key: value.clone().requires_grad_(True) for key, value in vectors.items()}
    optimizer = torch.optim.Adam(learned.values(), lr=learning_rate)
    for first in range(0, len(lessons), pictures_per_step):
        optimizer.param_groups[0]["lr"] = learning_rate * (1 - first / len(lessons))
        optimizer.zero_grad()
        for prompt, teacher, seed in lessons[first : first + pictures_per_step]:
            latents = backbone.initial_latents([seed])
            with torch.no_grad():
                wanted = backbone.sample(latents, backbone.encode_prompt(teacher), [seed])
            with torch.enable_grad():
                with spliced(backbone, {placeholder: learned}) as encode:
                    embeds = encode(prompt)
                drawn = backbone.sample(latents, embeds, [seed])
                (drawn.float() - wanted.float()).square().mean().backward()
        optimizer.step()
    return {key: value.detach() for key, value in learned.items()}
