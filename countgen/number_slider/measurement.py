"""Measure a calibration: generate images by number word and offset, and count them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import torch

from countgen.backbones.low_memory import retry_with_low_memory
from countgen.backbones.registry import base_model
from countgen.models import Models
from countgen.number_slider.axis import NumberShift, encode_shifted
from countgen.number_slider.calibration import Calibration
from countgen.prompts import Target
from countgen.prompts.number_words import number_word
from countgen.prompts.plurals import plural

OBJECTS = ("apple", "orange", "banana", "donut", "carrot", "cat", "dog", "bird", "car", "bus", "cup", "clock")
"""Classes of COCO and of the embedded detectors."""

FIRST_SEED = 90_000
"""First tuning seed; no result is reported on these seeds."""

_BATCH_SIZE = 8
_BEFORE = "a photo of "


def new_calibration(
    models: Models,
    *,
    object_names: Sequence[str] = OBJECTS,
    images_per_point: int = 200,
    max_number: int = 16,
    first_seed: int = FIRST_SEED,
) -> Calibration:
    """Return a calibration without points.

    Raises:
        ValueError: too few images or number words, no class, or a class that a detector does not have.
    """
    models.check(targets_to_measure(object_names, images_per_point, max_number))
    backbone = models.backbone
    return Calibration(
        backbone=base_model(backbone),
        num_inference_steps=backbone.num_inference_steps,
        guidance_scale=backbone.guidance_scale,
        height=backbone.height,
        width=backbone.width,
        critic=models.critics[0].name,
        object_names=tuple(object_names),
        images_per_point=images_per_point,
        first_seed=first_seed,
        max_number=max_number,
        loaded_as=backbone.loaded_as,
    )


def targets_to_measure(object_names: Sequence[str], images_per_point: int, max_number: int) -> tuple[Target, ...]:
    """Return the largest target of each object class; what no model can measure is refused.

    Raises:
        ValueError: too few images or number words, a number that no target has, or no class.
    """
    if images_per_point < 1 or max_number < 2 or not object_names:
        raise ValueError(
            "a calibration needs an object class, an image for each point and two number words, got "
            f"{len(object_names)} classes, {images_per_point} images and {max_number} words"
        )
    return tuple(Target(name, max_number) for name in object_names)


def measure(models: Models, calibration: Calibration) -> Iterator[Calibration]:
    """Measure the missing points of a calibration, one after the other.

    Yields:
        The calibration with one more point; the last one is complete.

    Raises:
        ValueError: no number word generates more objects than "one".
    """
    while calibration.left:
        number, offset = calibration.left[0]
        if offset and calibration.hi < 2:
            raise ValueError(
                f"{calibration.backbone} generates most objects for the word 'one', so it has no number axis; try "
                "more --images"
            )
        calibration = calibration.with_point(number, offset, _counts(models, calibration, number, offset))
        yield calibration


@torch.no_grad()
def _counts(models: Models, calibration: Calibration, number: int, offset: float) -> Counter[int]:
    """Return the number of images by their count."""
    backbone, critic, counts = models.backbone, models.critics[0], Counter[int]()
    names = calibration.object_names
    seeds = range(calibration.first_seed, calibration.first_seed + calibration.images_per_point)
    for index, name in enumerate(names):
        own = seeds[index :: len(names)]
        if not own:
            continue
        word = number_word(number)
        prompt = f"{_BEFORE}{word} {name if number == 1 else plural(name)}"
        span = (len(_BEFORE), len(_BEFORE) + len(word))
        ends = (calibration.lo, calibration.hi) if offset else (1, 2)
        shift = NumberShift(name, *span, number=number, offset=offset, lo=ends[0], hi=ends[1])
        embeds = encode_shifted(backbone, prompt, None, [shift] if offset else [])
        for start in range(0, len(own), _BATCH_SIZE):
            part = own[start : start + _BATCH_SIZE]
            latents = backbone.initial_latents(part)
            images = retry_with_low_memory(backbone, partial(backbone.render_in_parts, latents, embeds, part))
            counts.update(critic.counts(images, [name])[:, 0].tolist())
    return counts
