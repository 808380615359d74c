"""Make a count token beyond the number words: the mean number direction of many prompts."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from countgen.backbones import Backbone
from countgen.backbones.registry import base_model
from countgen.number_slider.calibration import Calibration
from countgen.prompts.number_words import number_word
from countgen.prompts.plurals import counted
from countgen.prompts.prompt import placeholder_of
from countgen.tokens.direction import NumberDirection
from countgen.tokens.file import CountToken
from countgen.tokens.settings import TEMPLATES
from countgen.tokens.textual_inversion import injected, word_vectors


@torch.no_grad()
def direction_token(
    backbone: Backbone,
    target_count: int,
    object_names: Sequence[str],
    calibration: Calibration,
    *,
    templates: Sequence[str] = TEMPLATES,
) -> CountToken:
    """Return a token for a count beyond the number words, with the mean direction over classes and templates.

    Nothing is generated: the direction comes from the text encoders, and the offset is the calibration's best one for
    the count, since the mean direction generates as many objects as that of each prompt.

    Args:
        backbone: encodes every class and template with two number words.
        target_count: count that the token stands for.
        object_names: names of the objects to average over, singular.
        calibration: of the model's number axis.
        templates: of prompts, with {number} and {objects}.

    Raises:
        ValueError: no objects or templates are given, the calibration is of another model, or the count is not beyond
            its number words or farther than it reaches.
    """
    if not object_names or not templates:
        raise ValueError("a token is made from at least one object and template; give object_names and templates")
    calibration.check(backbone)
    lo, hi = calibration.lo, calibration.hi
    if not hi < target_count <= calibration.max_count:
        raise ValueError(
            f"the number axis of {calibration.backbone} reaches counts from {hi + 1} to {calibration.max_count}, as it "
            f"was calibrated, got {target_count}; give such a count, or a calibration that reaches farther (countgen "
            "calibrate --max-number)"
        )
    low, high = (_mean_embeds(backbone, number, object_names, templates) for number in (lo, hi))
    steps = {name: ((high[name] - low[name]) / (hi - lo)).cpu() for name in high}
    offsets = [point for point in calibration.on_axis if point.offset > 0]
    best = max(offsets, key=lambda point: point.score(target_count))
    settings = json.dumps([list(templates), lo, hi])
    return CountToken(
        placeholder_token=placeholder_of(target_count),
        target_count=target_count,
        vectors=word_vectors(backbone, number_word(hi)),
        base_model=base_model(backbone),
        revision=backbone.preset.revision,
        object_names=tuple(object_names),
        critic=calibration.critic,
        config_hash=hashlib.sha256(settings.encode()).hexdigest()[:16],
        accuracy=None,
        licence="Apache-2.0",
        direction=NumberDirection(hi, best.offset, **steps),
    )


def _mean_embeds(
    backbone: Backbone, number: int, object_names: Sequence[str], templates: Sequence[str]
) -> dict[str, Tensor]:
    """Return the mean embeddings of each template and class with a number word.

    Returns:
        "prompt_embeds", float32 (2, D): at the number's positions and at those of the text after it, without padding,
        which would make the mean shorter; and "pooled_prompt_embeds", (P,), if the model has a pooled vector.
    """
    placeholder, embedded = placeholder_of(number), defaultdict[str, list[Tensor]](list)
    with injected(backbone, placeholder, word_vectors(backbone, number_word(number))) as encode:
        for template, name in product(templates, object_names):
            prompt = template.format(number=placeholder, objects=counted(name, number))
            ((first, end),) = encode.spans(prompt)
            embeds = encode(prompt)
            text = embeds.prompt_embeds[0, : len(encode.ids(prompt))].float()
            embedded["prompt_embeds"].append(torch.stack([text[first:end].mean(0), text[end:].mean(0)]))
            if embeds.pooled_prompt_embeds is not None:
                embedded["pooled_prompt_embeds"].append(embeds.pooled_prompt_embeds[0].float())
    return {name: torch.stack(tensors).mean(0) for name, tensors in embedded.items()}
