"""Accuracy of a detector: how often it counts all objects of a new scene exactly right."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from countgen.critics.base import Critic
from countgen.critics.nms import unsuppressed
from countgen.miniature.training.detector_data import Batch, SceneSource
from countgen.miniature.world import OBJECT_NAMES

COUNT_RANGES = ((0, 10), (11, 15), (16, 20))
THRESHOLDS = tuple(round(0.1 + 0.025 * step, 3) for step in range(29))
KINDS = ("rendered", "round trip", "styled")
_SUFFICIENT = 400
_AT_ONCE = 32

Counter = Callable[[Tensor, Sequence[float]], Tensor]
"""A function from images (B, 3, H, W) and T thresholds to counts (T, B, 24)."""


def detector_counter(critic: Critic) -> Counter:
    """Return a function that counts all objects with one NMS for all classes, with the counts of `Critic.counts`.

    NMS does not depend on the threshold, because a box never suppresses one with a higher score.
    """

    def count(images: Tensor, thresholds: Sequence[float]) -> Tensor:
        proposals = critic.propose(images, [])
        scores = proposals.logits.float().sigmoid()
        if critic.one_class_per_box:
            scores, labels = scores.max(-1)
            scores, order = scores.topk(min(_SUFFICIENT, scores.shape[1]), dim=1)
            labels, rows = labels.gather(1, order), order
        else:
            classes = scores.shape[-1]
            scores, order = scores.flatten(1).topk(min(_SUFFICIENT, scores[0].numel()), dim=1)
            labels, rows = order % classes, order // classes
        boxes = proposals.boxes.float().gather(1, rows[..., None].expand(-1, -1, 4))
        # The offset separates boxes of different classes, so that they never suppress one another.
        kept = unsuppressed(boxes + 1000.0 * labels[..., None], critic.settings.nms_iou or 1.0)
        found = torch.stack([kept & (scores > threshold) for threshold in thresholds]).long()
        counts = torch.zeros(*found.shape[:2], len(OBJECT_NAMES), dtype=torch.int64, device=images.device)
        return counts.scatter_add_(2, labels.expand_as(found), found)

    return count


def density_counter(network: Callable[[Tensor], Tensor]) -> Counter:
    """Return a function that counts by rounded sums of density maps, whatever the thresholds."""

    def count(images: Tensor, thresholds: Sequence[float]) -> Tensor:
        sums = network(images).sum((2, 3)).round().long()
        return sums.expand(len(thresholds), -1, -1)

    return count


@torch.no_grad()
def exact(counter: Counter, batch: Batch, thresholds: Sequence[float]) -> Tensor:
    """Return the fraction of images in which the counts of all 24 objects are right, (T,)."""
    right = []
    for begin in range(0, len(batch.images), _AT_ONCE):
        counts = counter(batch.images[begin : begin + _AT_ONCE], thresholds)
        expected = batch.counts(len(OBJECT_NAMES))[begin : begin + _AT_ONCE]
        right.append((counts == expected).all(-1).float())
    return torch.cat(right, 1).mean(1)


def measure(
    counter: Counter, source: SceneSource, number: int, thresholds: Sequence[float] = THRESHOLDS
) -> dict[str, float]:
    """Choose the threshold on some scenes, and measure the accuracy on others.

    Args:
        counter: counter of the detector.
        source: source of the scenes; without a generator, styled ones are left out.
        number: number of scenes of each kind and range of counts.
        thresholds: thresholds to choose from.

    Returns:
        The accuracy by "<kind> <least>-<most>", and the chosen "threshold".
    """
    kinds = KINDS if source.generator is not None else KINDS[:2]
    chosen = torch.stack(
        [
            exact(counter, source.make(number, counts=counts, kind=kind), thresholds)
            for kind in kinds
            for counts in COUNT_RANGES[:2]
        ]
    ).mean(0)
    # The median of the best thresholds is less sensitive to noise than the first of them.
    best = (chosen >= chosen.max() - 0.002).nonzero()[:, 0]
    threshold = thresholds[int(best[len(best) // 2])]
    result = {"threshold": threshold}
    for kind in kinds:
        for least, most in COUNT_RANGES:
            batch = source.make(number, counts=(least, most), kind=kind)
            result[f"{kind} {least}-{most}"] = round(float(exact(counter, batch, [threshold])[0]), 4)
    return result
