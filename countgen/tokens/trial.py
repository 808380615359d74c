"""What a token is worth: the judge counts new pictures with it and with the number word."""

from __future__ import annotations

import torch

from countgen.models import Models
from countgen.prompts.number_words import number_word
from countgen.prompts.plurals import counted
from countgen.tokens.file import CountToken
from countgen.tokens.textual_inversion import encode_prompt

PICTURES = 32
FIRST_TRIAL_SEED = 3 * 2**29
"""Above the seeds of validation, below those of learning."""


@torch.no_grad()
def try_token(models: Models, token: CountToken, pictures: int = PICTURES) -> tuple[float, float]:
    """Shares of pictures that the judge counts right, with the token and with the plain prompt, on the same seeds.

    The objects are those that the token was learned on, one after the other; the seeds are new.
    """
    backbone, goal = models.backbone, token.target_count
    right = {True: 0, False: 0}
    for k in range(pictures):
        name, seed = token.object_names[k % len(token.object_names)], FIRST_TRIAL_SEED + k
        prompt = f"a photo of {number_word(goal)} {counted(name, goal)}"
        for with_token in right:
            embeds = encode_prompt(backbone, prompt, token if with_token else None)
            images = backbone.render(backbone.initial_latents([seed]), embeds, [seed])
            right[with_token] += int(models.judge.counts(images, [name])[0, 0]) == goal
    return right[True] / pictures, right[False] / pictures
