"""Tokens with the input vectors of words, without training."""

import torch

from countgen.tokens.direction import NumberDirection
from countgen.tokens.file import CountToken
from countgen.tokens.textual_inversion import word_vectors

FIELDS = {
    "revision": None,
    "object_names": ("apple", "dog"),
    "critic": "miniature-yolo",
    "config_hash": "0123456789abcdef",
    "accuracy": 0.5,
    "licence": "Apache-2.0",
}


def token_of(backbone, text="seven of", count=7, **changes):
    """Return a token that stands for a count with the vectors of a text."""
    fields = {
        "placeholder_token": f"<count-{count}>",
        "target_count": count,
        "vectors": word_vectors(backbone, text),
        "base_model": backbone.name,
    }
    return CountToken(**(FIELDS | fields | changes))


def direction_token_of(backbone, count=14, **changes):
    """Return a token with the vectors of twelve and a random direction, by two objects."""
    embeds, generator = backbone.encode_prompt("twelve apples"), torch.Generator().manual_seed(0)
    pooled = embeds.pooled_prompt_embeds
    direction = NumberDirection(
        start_number=12,
        offset=2.0,
        prompt_embeds=torch.randn(2, embeds.prompt_embeds.shape[2], generator=generator),
        pooled_prompt_embeds=None if pooled is None else torch.randn(pooled.shape[1], generator=generator),
    )
    return token_of(backbone, "twelve", count, **({"direction": direction} | changes))
