"""The counts of critics on scenes with known counts: the readings that `benchmarks.studies.critics` reports."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.studies.critics.known_scenes import COUNTS, KnownScenes, known_scenes
from critics import Critic, Proposals
from critics.detections import hard_count
from critics.losses import LOSSES
from critics.soft_indicator import soft_count

THRESHOLDS = tuple(round(0.1 + 0.05 * step, 2) for step in range(15))
STEEPNESSES = (1.0, 2.0, 4.0, 8.0, 16.0)
OVERLAPS = (0.3, 0.4, 0.45, 0.5, 0.6, 0.7)


@dataclass
class Readings:
    """The counts of one critic; every list has one entry per scene.

    Attributes:
        threshold, nms_iou, steepness: as the critic ships; None for a critic without candidates.
        condition: of the scene.
        truth: the number of objects.
        hard, soft: the critic's counts.
        by_threshold, by_overlap, by_steepness: hard counts at `THRESHOLDS` and `OVERLAPS`, soft ones at
            `STEEPNESSES`; empty for a critic without candidates.
    """

    threshold: float | None = None
    nms_iou: float | None = None
    steepness: float | None = None
    condition: list[str] = field(default_factory=list)
    truth: list[int] = field(default_factory=list)
    hard: list[int] = field(default_factory=list)
    soft: list[float] = field(default_factory=list)
    by_threshold: list[list[int]] = field(default_factory=list)
    by_overlap: list[list[int]] = field(default_factory=list)
    by_steepness: list[list[float]] = field(default_factory=list)

    def rows(self, condition: str | None = None, counts: Sequence[int] = COUNTS) -> NDArray[np.bool_]:
        """Return which scenes are of a condition and of certain counts."""
        chosen = np.isin(self.truth, list(counts))
        return chosen if condition is None else chosen & (np.array(self.condition) == condition)


def read(critics: Sequence[Critic], per_count: int, purpose: str) -> dict[str, Readings]:
    """Return the readings of every critic on the same scenes."""
    found = {
        critic.name: Readings(critic.threshold, critic.nms_iou, critic.steepness) if critic.detects else Readings()
        for critic in critics
    }
    for scenes in known_scenes(per_count, purpose):
        for critic in critics:
            add_counts(critic, scenes, found[critic.name])
    return found


@torch.no_grad()
def add_counts(critic: Critic, scenes: KnownScenes, readings: Readings) -> None:
    """Add a critic's counts of some scenes, those of one object together."""
    for object_name in dict.fromkeys(scenes.object_names):
        images = scenes.images[[name == object_name for name in scenes.object_names]]
        readings.condition += [scenes.condition] * len(images)
        readings.truth += [scenes.count] * len(images)
        _add_counts_of(object_name, critic, images, scenes.count, readings)


def _add_counts_of(object_name: str, critic: Critic, images: Tensor, count: int, readings: Readings) -> None:
    if not critic.detects:
        evaluation = critic.evaluate(images, {object_name: count}, LOSSES["l1"])
        readings.hard += evaluation.counts[:, 0].tolist()
        readings.soft += evaluation.soft_counts[:, 0].tolist()
        return
    proposals = critic.propose(images, [object_name])
    (candidates,) = critic.select(proposals)
    logit = critic.threshold_logit
    readings.hard += hard_count(candidates, logit).tolist()
    readings.soft += soft_count(candidates, logit, critic.steepness).tolist()
    soft = torch.stack([soft_count(candidates, logit, steepness) for steepness in STEEPNESSES], 1)
    readings.by_steepness += soft.tolist()
    readings.by_threshold += by_threshold(critic, proposals).tolist()
    if critic.nms_iou is not None:
        overlaps = [with_overlap(critic, proposals, overlap) for overlap in OVERLAPS]
        readings.by_overlap += torch.stack(overlaps, 1).tolist()


def by_threshold(critic: Critic, proposals: Proposals, thresholds: Sequence[float] = THRESHOLDS) -> Tensor:
    """Return hard counts int64 (B, len(thresholds)) of the same proposals.

    Selected once, at the lowest threshold: a better box is never suppressed by a worse one, so what lies above a
    higher threshold stays as it is.
    """
    lowest = copy.copy(critic)
    lowest.threshold = min(thresholds)
    (candidates,) = lowest.select(_above(lowest.threshold_logit, proposals))
    logits = torch.tensor(thresholds).logit()
    return torch.stack([hard_count(candidates, float(logit)) for logit in logits], 1)


def with_overlap(critic: Critic, proposals: Proposals, nms_iou: float) -> Tensor:
    """Return hard counts int64 (B,) of the same proposals at another NMS IoU."""
    other = copy.copy(critic)
    other.nms_iou = nms_iou
    above = _above(critic.threshold_logit, proposals)
    return hard_count(other.select(above)[0], critic.threshold_logit)


def _above(threshold_logit: float, proposals: Proposals) -> Proposals:
    """Return as many of the best proposals as lie above a threshold in any image; worse ones suppress no detection."""
    (column,) = proposals.columns
    scores = proposals.logits[..., column]
    number = max(1, int((scores > threshold_logit).sum(1).max()))
    rows = scores.topk(number, dim=1).indices[..., None]
    logits = proposals.logits.gather(1, rows.expand(-1, -1, proposals.logits.shape[2]))
    return Proposals(proposals.boxes.gather(1, rows.expand(-1, -1, 4)), logits, proposals.columns)
