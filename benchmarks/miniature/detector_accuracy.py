"""Accuracy of a detector: how often it counts all objects of a new scene exactly right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from countgen.benchmarks.miniature.detector_data import KINDS, Batch, SceneSource
from countgen.critics import Critic
from countgen.critics.detections import hard_count
from countgen.miniature.world import OBJECT_NAMES

COUNT_RANGES = ((0, 10), (11, 15), (16, 20))
THRESHOLDS = tuple(round(0.1 + 0.025 * step, 3) for step in range(29))
_AT_ONCE = 32


@torch.no_grad()
def counts_at(critic: Critic, images: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Return the counts of all 24 objects at several thresholds, int64 (T, B, 24), from one forward pass.

    The candidates at the lowest threshold serve for all: a box never suppresses one with a higher score.
    """
    if not critic.detects:
        return critic.counts(images, OBJECT_NAMES).expand(len(thresholds), -1, -1)
    own = critic.settings.threshold
    critic.configure(threshold=min(thresholds))
    candidates = critic.candidates(images, OBJECT_NAMES)
    critic.configure(threshold=own)
    logits = torch.tensor(thresholds, dtype=torch.float64).logit().tolist()
    return torch.stack([torch.stack([hard_count(of_class, logit) for of_class in candidates], 1) for logit in logits])


def exact(critic: Critic, batch: Batch, thresholds: Sequence[float]) -> Tensor:
    """Return the fraction of images in which the counts of all 24 objects are right, (T,)."""
    counts = torch.cat([counts_at(critic, images, thresholds) for images in batch.images.split(_AT_ONCE)], 1)
    return (counts == batch.counts()).all(-1).float().mean(1)


def measure(critic: Critic, source: SceneSource, number: int) -> dict[str, float]:
    """Choose the critic's threshold on some scenes, set it, and measure the accuracy on others.

    Returns:
        The accuracy by "<kind> <least>-<most>" of `number` scenes each, and the chosen "threshold".
    """
    kinds = KINDS if source.generator is not None else KINDS[:2]
    cases = [(kind, counts) for kind in kinds for counts in COUNT_RANGES]
    trials = [
        exact(critic, source.make(number, counts=counts, kind=kind), THRESHOLDS)
        for kind, counts in cases
        if counts != COUNT_RANGES[-1]
    ]
    accuracy = torch.stack(trials).mean(0)
    # The median of the best thresholds is less sensitive to noise than the first of them.
    best = (accuracy >= accuracy.max() - 0.002).nonzero()[:, 0]
    threshold = THRESHOLDS[int(best[len(best) // 2])]
    if critic.detects:
        critic.configure(threshold=threshold)
    result = {"threshold": threshold}
    for kind, counts in cases:
        batch = source.make(number, counts=counts, kind=kind)
        result[f"{kind} {counts[0]}-{counts[1]}"] = round(float(exact(critic, batch, [threshold])[0]), 4)
    return result
