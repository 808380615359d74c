"""Accuracy of a token on new seeds, by the judge, beside that of the number word."""

from __future__ import annotations

import torch

from countgen.models import Models
from countgen.prompts.number_words import number_word
from countgen.prompts.plurals import counted
from countgen.tokens.file import CountToken
from countgen.tokens.settings import FIRST_TRIAL_SEED
from countgen.tokens.textual_inversion import encode_prompt


@torch.no_grad()
def try_token(models: Models, token: CountToken, num_images: int) -> tuple[float, float]:
    """Return the judge's accuracy with the token and with the plain prompt, on the same seeds.

    The objects are those that the token was trained on, in turn; the seeds are not those of training or validation.

    Raises:
        ValueError: the models have no judge.
    """
    backbone, judge, target_count = models.backbone, models.required_judge, token.target_count
    right = {True: 0, False: 0}
    for k in range(num_images):
        name, seed = token.object_names[k % len(token.object_names)], FIRST_TRIAL_SEED + k
        prompt = f"a photo of {number_word(target_count)} {counted(name, target_count)}"
        for with_token in right:
            embeds = encode_prompt(backbone, prompt, token if with_token else None)
            images = backbone.render(backbone.initial_latents([seed]), embeds, [seed])
            right[with_token] += int(judge.counts(images, [name])[0, 0]) == target_count
    return right[True] / num_images, right[False] / num_images
