"""Calibrate a model: count images by number word and offset, and fit P(right) to what critics and judge say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress

import torch
from msgspec.structs import replace
from torch import Tensor

from countgen.backbones.low_memory import retry_with_low_memory
from countgen.backbones.registry import base_model
from countgen.critics import Critic
from countgen.methods import DEFAULT_SURE
from countgen.methods.acceptance import Acceptance
from countgen.methods.acceptance_fit import fit_acceptance
from countgen.methods.objective import CONFIRMATION_VIEWS, Objective
from countgen.methods.settings import Settings, setting
from countgen.models import Models
from countgen.number_slider.axis import NumberShift, encode_shifted
from countgen.number_slider.calibration import OFFSETS, Calibration
from countgen.prompts import MAX_TARGET_COUNT, Target
from countgen.prompts.number_words import number_word
from countgen.prompts.plurals import counted

OBJECTS = ("apple", "orange", "banana", "donut", "carrot", "cat", "dog", "bird", "car", "bus", "cup", "clock")
"""Classes of COCO and of the embedded detectors."""

_BATCH_SIZE = 8
_BEFORE = "a photo of "


@dataclass(frozen=True)
class CalibrationSettings(Settings):
    """Settings of a calibration of the number axis; no result is reported on the default seeds."""

    images: int = setting(200, "images for each point", at_least=1)
    max_number: int = setting(16, "highest number word to measure", at_least=2, at_most=MAX_TARGET_COUNT)
    seed: int = setting(90_000, "first seed of each point", at_least=0, at_most=2**32 - 1)


def new_calibration(
    models: Models, object_names: Sequence[str] = OBJECTS, settings: CalibrationSettings = CalibrationSettings()
) -> Calibration:
    """Return a calibration without points; a ValueError if no object class is given or a detector lacks one."""
    if not object_names:
        raise ValueError("a calibration of the number axis needs at least one object class; give object_names")
    models.check(tuple(Target(name, settings.max_number) for name in object_names))
    backbone = models.backbone
    return Calibration(
        backbone=base_model(backbone),
        num_inference_steps=backbone.num_inference_steps,
        guidance_scale=backbone.guidance_scale,
        height=backbone.height,
        width=backbone.width,
        critic=models.critics[0].name,
        object_names=tuple(object_names),
        images_per_point=settings.images,
        first_seed=settings.seed,
        max_number=settings.max_number,
        offsets=() if backbone.seeds_only else OFFSETS,
        loaded_as=backbone.loaded_as,
    )


def measure(models: Models, calibration: Calibration) -> Iterator[Calibration]:
    """Measure the missing points of a calibration, one after the other, then fit P(right) if there is a judge.

    Yields:
        The calibration with one more point or with the fit; the last one is complete.

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
    if models.judge is not None and calibration.acceptance is None:
        yield replace(calibration, acceptance=_acceptance(models, models.judge, calibration))


def _counts(models: Models, calibration: Calibration, number: int, offset: float) -> Counter[int]:
    """Return the number of images by their count."""
    counts = Counter[int]()
    for name, images in _batches(models, calibration, number, offset):
        counts.update(models.critics[0].counts(images, [name])[:, 0].tolist())
    return counts


@torch.no_grad()
def _acceptance(models: Models, judge: Critic, calibration: Calibration) -> Acceptance:
    """Return P(right), fitted to plain images of the number words."""
    all_margins, verdicts, halves, targets = [], [], [], []
    for number in range(1, calibration.max_number + 1):
        for name, images in _batches(models, calibration, number, 0.0):
            objective = Objective(models.critics, (Target(name, number),), CONFIRMATION_VIEWS)
            targets += [objective.targets] * len(images)
            evaluation = retry_with_low_memory(models.backbone, partial(objective.evaluate, images))
            all_margins.append(evaluation.margin.double().cpu())
            verdicts.append(judge.counts(images, [name])[:, 0].cpu() == number)
            # Every other seed, since images of one seed are alike, whatever their number.
            halves.append(torch.arange(len(images)) % 2 == 0)
    margins, right, half, critics = *map(torch.cat, (all_margins, verdicts, halves)), objective.columns
    acceptance = fit_acceptance(margins, right, critics, targets)
    confirmed = torch.zeros_like(right)
    for held_out in (half, ~half):
        if 0 < right[~held_out].sum() < len(right[~held_out]):  # otherwise that half confirms nothing
            fitted = fit_acceptance(margins[~held_out], right[~held_out], critics, list(compress(targets, ~held_out)))
            for row in held_out.nonzero()[:, 0].tolist():
                probability = fitted.probability(fitted.views, margins[[row]], critics, targets[row])
                confirmed[row] = probability >= DEFAULT_SURE
    return replace(
        acceptance,
        judge=judge.name,
        images=len(right),
        confirmed=int(confirmed.sum()),
        right=int(right[confirmed].sum()),
    )


@torch.no_grad()
def _batches(models: Models, calibration: Calibration, number: int, offset: float) -> Iterator[tuple[str, Tensor]]:
    """Yield the images of a point, (B, 3, H, W), with their object class."""
    backbone = models.backbone
    word = number_word(number)
    span = (len(_BEFORE), len(_BEFORE) + len(word))
    all_seeds = range(calibration.first_seed, calibration.first_seed + calibration.images_per_point)
    for index, name in enumerate(calibration.object_names):
        seeds = all_seeds[index :: len(calibration.object_names)]
        shifts = []
        if offset:
            shifts = [NumberShift(name, *span, number=number, offset=offset, lo=calibration.lo, hi=calibration.hi)]
        embeds = encode_shifted(backbone, f"{_BEFORE}{word} {counted(name, number)}", None, shifts)
        for start in range(0, len(seeds), _BATCH_SIZE):
            batch = seeds[start : start + _BATCH_SIZE]
            latents = backbone.initial_latents(batch)
            images, _ = retry_with_low_memory(backbone, partial(backbone.render_in_parts, latents, embeds, batch))
            yield name, images
