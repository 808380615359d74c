"""Accuracy and errors of counts against target counts: one definition for evaluations, metrics and commands.

Everything is a sum over images, so that batches, processes and shards can be added.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

Counted = tuple[Sequence[int] | None, Sequence[int]]
"""Counts and target counts of one image, of the same length; None for counts that are not known."""

SUMS = ("images", "right", "close", "points", "objects", "absolute", "squared", "signed")


def is_right(counts: Sequence[int] | None, targets: Sequence[int]) -> bool:
    """Return whether every count is known and equals its target count."""
    return counts is not None and tuple(counts) == tuple(targets)


def sums(images: Iterable[Counted]) -> dict[str, float]:
    """Return the sums over images from which `means` follow.

    Returns:
        images, right, close: numbers of images: all, those with the target count of every object class, and those with
            every count at most one off.
        points: of images: the mean over object classes of half a point where any is counted and half where the count
            is the target; none without counts. Source: Huang et al. 2025 (T2I-CompBench++), numeracy.
        objects: number of counts that are known.
        absolute, squared, signed: their errors in objects; signed is above 0 for too many.
    """
    total: dict[str, float] = dict.fromkeys(SUMS, 0)
    for counts, targets in images:
        total["images"] += 1
        if counts is None:
            continue
        errors = [count - target for count, target in zip(counts, targets, strict=True)]
        total["right"] += is_right(counts, targets)
        total["close"] += max(map(abs, errors)) <= 1
        total["points"] += sum((count > 0) + (error == 0) for count, error in zip(counts, errors, strict=True)) / (
            2 * len(errors)
        )
        total["objects"] += len(errors)
        total["absolute"] += sum(map(abs, errors))
        total["squared"] += sum(error**2 for error in errors)
        total["signed"] += sum(errors)
    return total


def means(total: Mapping[str, float]) -> dict[str, float]:
    """Return accuracy, off_by_one and partial as fractions of all images, and mae, rmse and bias in objects.

    They are NaN without images, and without counts that are known.
    """
    of_images = {"accuracy": "right", "off_by_one": "close", "partial": "points"}
    of_objects = {"mae": "absolute", "rmse": "squared", "bias": "signed"}
    result = {name: _quotient(total[key], total["images"]) for name, key in of_images.items()}
    result |= {name: _quotient(total[key], total["objects"]) for name, key in of_objects.items()}
    return result | {"rmse": math.sqrt(result["rmse"])}


def _quotient(value: float, number: float) -> float:
    return value / number if number else math.nan
