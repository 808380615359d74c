"""The number slider: move a prompt's embeddings along the direction that its number words span.

With E(n) the embeddings of a prompt with the number n, u = (E(hi) - E(lo)) / (hi - lo) is a step of one object. It is
computed from the output of the text encoders, pooled vector included; moving the number word's input vector has no
effect. E(hi) + k u generates more objects than hi, and so reaches counts beyond the number words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor
from torch.nn.functional import pad

from countgen.backbones import Backbone, PromptEmbeds
from countgen.files.schema import Document
from countgen.prompts import MAX_TARGET_COUNT, Prompt
from countgen.prompts.number_words import number_word
from countgen.tokens.file import CountToken
from countgen.tokens.textual_inversion import encode_prompt


class NumberShift(Document, frozen=True):
    """A move of the prompt embeddings along the number axis of one object class, from a number word.

    Attributes:
        object_name: of the class's target.
        start, end: character span of the number in the prompt, with placeholders spelled out.
        number: the number word that is encoded.
        offset: distance from that number along the axis, in objects.
        lo, hi: the number words that span the axis.
    """

    object_name: str
    start: int
    end: int
    number: Annotated[int, Meta(ge=1, le=MAX_TARGET_COUNT)]
    offset: Annotated[float, Meta(ge=-MAX_TARGET_COUNT, le=MAX_TARGET_COUNT)]
    lo: Annotated[int, Meta(ge=1, le=MAX_TARGET_COUNT)]
    hi: Annotated[int, Meta(ge=1, le=MAX_TARGET_COUNT)]


@torch.no_grad()
def encode_shifted(
    backbone: Backbone,
    prompt: str | Prompt,
    token: CountToken | None,
    shifts: Sequence[NumberShift],
    negative_prompt: str | None = None,
) -> PromptEmbeds:
    """Embed a prompt and move the embeddings along the number axis of each shifted class.

    The axis of a class comes from two encodings of the prompt that differ in its number alone. Embeddings of the
    negative prompt stay as they are.

    Args:
        backbone: encodes once for each class and end of its axis, and once for the start.
        prompt, negative_prompt: as `Backbone.encode_prompt` takes them.
        token: a trained token, for a prompt without shifts.
        shifts: none for the prompt as it is written; spans that do not overlap.
    """
    prompt = prompt if isinstance(prompt, Prompt) else Prompt(prompt)
    if not shifts:
        return encode_prompt(backbone, prompt, token, negative_prompt)
    if backbone.seeds_only and any(shift.offset for shift in shifts):
        raise ValueError(f"{backbone.name} has no prompt embeddings that a number offset could move; leave it out")
    numbers = {shift: shift.number for shift in shifts}
    moved = backbone.encode_prompt(_written(prompt, numbers), negative_prompt)
    for shift in shifts:
        low, high = (backbone.encode_prompt(_written(prompt, numbers | {shift: end})) for end in (shift.lo, shift.hi))
        moved = moved_along(moved, low, high, shift.offset / (shift.hi - shift.lo))
    return moved


def moved_along(start: PromptEmbeds, low: PromptEmbeds, high: PromptEmbeds, weight: float) -> PromptEmbeds:
    """Return start + weight (high - low); embeddings of the negative prompt are those of the start.

    A position is attended to if any of the three masks has a token, so that from low with a weight of 1 the result
    is high, mask included, whichever is longer. Embeddings without padding are as long as the longest of the three,
    and zero where a shorter one ends.
    """
    if weight == 0:
        return start
    all_three = (start, low, high)
    masks = [embeds.attention_mask for embeds in all_three if embeds.attention_mask is not None]
    pooled = [embeds.pooled_prompt_embeds for embeds in all_three if embeds.pooled_prompt_embeds is not None]
    length = max(embeds.prompt_embeds.shape[1] for embeds in all_three)
    padded = [pad(embeds.prompt_embeds, (0, 0, 0, length - embeds.prompt_embeds.shape[1])) for embeds in all_three]
    return replace(
        start,
        prompt_embeds=_sum(weight, *padded),
        pooled_prompt_embeds=_sum(weight, *pooled) if pooled else None,
        attention_mask=reduce(torch.maximum, masks) if masks else None,
    )


def _sum(weight: float, start: Tensor, low: Tensor, high: Tensor) -> Tensor:
    # In float32: the difference of two half-precision embeddings is small beside them.
    return (start.float() + weight * (high.float() - low.float())).to(start.dtype)


def _written(prompt: Prompt, numbers: Mapping[NumberShift, int]) -> str:
    """Return the prompt with a number in the place of each shift's span."""
    return prompt.replaced({(shift.start, shift.end): number_word(number) for shift, number in numbers.items()})
