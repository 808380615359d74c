"""Make a count token beyond the number words: the mean number direction of many prompts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from countgen.backbones import Backbone
from countgen.backbones.registry import base_model
from countgen.learning.settings import TEMPLATES
from countgen.number_slider.calibration import Calibration
from countgen.prompts.number_words import number_word
from countgen.prompts.placeholders import placeholder_of
from countgen.prompts.plurals import counted
from countgen.tokens.direction import EncodedPrompt, mean_direction
from countgen.tokens.file import CountToken
from countgen.tokens.textual_inversion import encoders_of, injected, length_of


@torch.no_grad()
def direction_token(
    backbone: Backbone,
    target_count: int,
    object_names: Sequence[str],
    calibration: Calibration,
    *,
    templates: Sequence[str] = TEMPLATES,
    licence: str = "Apache-2.0",
) -> CountToken:
    """Return a token for a count beyond the number words, with the mean direction over classes and templates.

    No image is generated: the direction comes from the text encoders, and the offset is the calibration's best one for
    the count, since the mean direction generates as many objects as that of each prompt.

    Args:
        backbone: encodes every class and template with two number words.
        target_count: count that the token stands for.
        object_names: names of the objects to average over, singular.
        calibration: of the model's number axis.
        templates: of prompts, with {number} and {objects}.
        licence: licence of the token.

    Raises:
        ValueError: there are no objects or templates, the calibration is of another model, or the count is not beyond
            its number words or farther than it reaches.
    """
    if not object_names or not templates:
        raise ValueError("a token is learned on at least one object and template; give object_names and templates")
    calibration.check(backbone)
    lo, hi = calibration.lo, calibration.hi
    if not hi < target_count <= calibration.max_count:
        raise ValueError(
            f"the number axis of {calibration.backbone} reaches counts from {hi + 1} to {calibration.max_count}, as it "
            f"was calibrated, got {target_count}; give such a count, or a calibration that reaches farther (countgen "
            "calibrate --max-number)"
        )
    low, high = (_encoded(backbone, number, object_names, templates) for number in (lo, hi))
    beyond = [point for point in calibration.on_axis if point.offset > 0]
    best = max(beyond, key=lambda point: point.merit(target_count))
    settings = json.dumps([list(templates), lo, hi])
    return CountToken(
        placeholder_token=placeholder_of(target_count),
        target_count=target_count,
        vectors=_vectors(backbone, hi),
        base_model=base_model(backbone),
        revision=backbone.preset.revision,
        object_names=tuple(object_names),
        critic=calibration.critic,
        config_hash=hashlib.sha256(settings.encode()).hexdigest()[:16],
        accuracy=None,
        licence=licence,
        direction=replace(mean_direction(low, high, lo, hi), offset=best.offset),
    )


def _encoded(
    backbone: Backbone, number: int, object_names: Sequence[str], templates: Sequence[str]
) -> list[EncodedPrompt]:
    """Return the embeddings of each template and class with a number word."""
    placeholder, found = placeholder_of(number), []
    with injected(backbone, {placeholder: _vectors(backbone, number)}) as encode:
        for template in templates:
            for name in object_names:
                prompt = template.format(number=placeholder, objects=counted(name, number))
                (span,) = encode.spans(prompt, placeholder)
                found.append(EncodedPrompt(encode(prompt), span, len(encode.ids(prompt))))
    return found


def _vectors(backbone: Backbone, number: int) -> dict[str, Tensor]:
    """Return the input vectors of a number word, as many for each encoder."""
    word = number_word(number)
    length = length_of(word, backbone)
    return {key: encoder.vectors_of(word, length, backbone) for key, encoder in encoders_of(backbone).items()}
