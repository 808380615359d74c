"""Make a count token beyond the number words: the mean number direction of many prompts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import torch
from torch import Tensor

from countgen.backbones import Backbone
from countgen.backbones.registry import base_model
from countgen.number_slider.calibration import Calibration
from countgen.prompts.number_words import number_word
from countgen.prompts.placeholders import placeholder_of
from countgen.prompts.plurals import counted
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
    vectors = word_vectors(backbone, number_word(hi))
    (low, low_pooled), (high, high_pooled) = (
        _mean_embeds(backbone, number, object_names, templates) for number in (lo, hi)
    )
    pooled = None if low_pooled is None or high_pooled is None else ((high_pooled - low_pooled) / (hi - lo)).cpu()
    offsets = [point for point in calibration.on_axis if point.offset > 0]
    best = max(offsets, key=lambda point: point.score(target_count))
    settings = json.dumps([list(templates), lo, hi])
    return CountToken(
        placeholder_token=placeholder_of(target_count),
        target_count=target_count,
        vectors=vectors,
        base_model=base_model(backbone),
        revision=backbone.preset.revision,
        object_names=tuple(object_names),
        critic=calibration.critic,
        config_hash=hashlib.sha256(settings.encode()).hexdigest()[:16],
        accuracy=None,
        licence="Apache-2.0",
        direction=NumberDirection(hi, best.offset, ((high - low) / (hi - lo)).cpu(), pooled),
    )


def _mean_embeds(
    backbone: Backbone, number: int, object_names: Sequence[str], templates: Sequence[str]
) -> tuple[Tensor, Tensor | None]:
    """Return the mean embeddings of each template and class with a number word.

    Returns:
        float32 (2, D), at the number's positions and at those of the text after it; and the pooled vector's mean, (P,).
        Padding is left out of the mean, which it would make shorter; the direction moves it as it moves the text.
    """
    placeholder, reduced, pooled = placeholder_of(number), [], []
    with injected(backbone, placeholder, word_vectors(backbone, number_word(number))) as encode:
        for template in templates:
            for name in object_names:
                prompt = template.format(number=placeholder, objects=counted(name, number))
                ((first, end),) = encode.spans(prompt)
                embeds = encode(prompt)
                embedded = embeds.prompt_embeds[0].float()
                text_after = embedded[end : len(encode.ids(prompt))]
                reduced.append(torch.stack([embedded[first:end].mean(0), text_after.mean(0)]))
                if embeds.pooled_prompt_embeds is not None:
                    pooled.append(embeds.pooled_prompt_embeds[0].float())
    return torch.stack(reduced).mean(0), torch.stack(pooled).mean(0) if pooled else None
