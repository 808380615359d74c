"""How often the embedded detectors count every object of a fresh rendered scene exactly right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.evaluation.statistics import rate
from benchmarks.studies.cases import SEEDS
from benchmarks.studies.miniature.samples import share
from countgen.miniature.training.detector_accuracy import Counter, detector_counter
from countgen.miniature.training.generator import decode, encode_images
from countgen.miniature.world import BACKGROUNDS, OBJECT_NAMES, Scene, load_sprites, render
from critics import Critic

COUNTS = range(21)
GROUPS = (("0-10", 0, 10), ("11-15", 11, 15), ("16-20", 16, 20))
KINDS = ("rendered", "round trip")
RENDERED_AT_ONCE = 10
TWO_KINDS_EVERY = 5


@dataclass(frozen=True)
class Sighting:
    """One scene seen by one detector.

    Attributes:
        detector: its short name.
        kind: one of `KINDS`: as rendered, or through the VAE and back.
        total: objects in the scene, of all kinds.
        right: whether the counts of all 24 objects are right, zeros included.
    """

    detector: str
    kind: str
    total: int
    right: bool


def fresh_scenes(total: int, number: int) -> list[Scene]:
    """Scenes of one count: objects and backgrounds in turn, two kinds of object in every fifth."""
    rng = np.random.default_rng((SEEDS["reporting"], total))
    objects = rng.permutation(len(OBJECT_NAMES))
    scenes = []
    for k in range(number):
        kind, background = int(objects[k % len(objects)]), k % len(BACKGROUNDS)
        if total >= 2 and k % TWO_KINDS_EVERY == TWO_KINDS_EVERY - 1:
            other = (kind + int(rng.integers(1, len(OBJECT_NAMES)))) % len(OBJECT_NAMES)
            share = int(rng.integers(1, total))
            scenes.append(Scene(((kind, share), (other, total - share)), background))
        else:
            scenes.append(Scene(((kind, total),), background))
    return scenes


def counter_of(critic: Critic) -> Counter:
    """Return a function that counts all 24 objects of images, as the critic itself does."""
    if critic.detects:
        return detector_counter(critic)

    def count(images: Tensor, thresholds: Sequence[float]) -> Tensor:
        # It finds no boxes, so it has no threshold either.
        return critic.counts(images, OBJECT_NAMES).expand(len(thresholds), -1, -1)

    return count


def true_counts(scenes: Sequence[Scene]) -> Tensor:
    """int64 (B, 24)."""
    counts = torch.zeros(len(scenes), len(OBJECT_NAMES), dtype=torch.int64)
    for row, scene in enumerate(scenes):
        for kind, count in scene.groups:
            counts[row, kind] += count
    return counts


@torch.no_grad()
def sightings(detectors: Sequence[Critic], vae: Any, per_count: int) -> list[Sighting]:
    """Return the sightings of every detector on the same scenes, 0 to 20 objects, rendered and after a VAE round trip.

    Args:
        detectors: at the thresholds they have.
        vae: the generators'.
        per_count: scenes of each count.
    """
    sprites, found = load_sprites(), []
    counters = [(critic, counter_of(critic)) for critic in detectors]
    # Scenes of one count together: rendering costs as much per image as the fullest one of its chunk.
    for total in COUNTS:
        generator = torch.Generator().manual_seed(SEEDS["reporting"] + total)
        scenes = fresh_scenes(total, per_count)
        for begin in range(0, per_count, RENDERED_AT_ONCE):
            part = scenes[begin : begin + RENDERED_AT_ONCE]
            wanted = true_counts(part)
            rendered = render(part, sprites, generator).images
            passed = decode(vae, encode_images(vae, rendered)).clamp(0, 1)
            for kind, images in zip(KINDS, (rendered, passed), strict=True):
                for critic, counter in counters:
                    right = (counter(images, [critic.threshold])[0] == wanted).all(1)
                    found += [Sighting(critic.name, kind, total, bool(hit)) for hit in right.tolist()]
    return found


def table(found: Sequence[Sighting], detectors: Sequence[str]) -> str:
    """Markdown: a row per count and per group of counts, two columns per detector."""
    columns = [(name, kind) for name in detectors for kind in KINDS]
    lines = [
        "| objects | n | " + " | ".join(f"{name}, {kind}" for name, kind in columns) + " |",
        "| --- " * (len(columns) + 2) + "|",
    ]
    rows = [(str(total), total, total) for total in COUNTS]
    rows += [(f"**{name}**", low, high) for name, low, high in (*GROUPS, ("all", 0, 20))]
    for name, low, high in rows:
        chosen = [s for s in found if low <= s.total <= high]
        hits = [[s.right for s in chosen if (s.detector, s.kind) == column] for column in columns]
        cells = [share(mine) if low == high else rate(mine) for mine in hits]
        lines.append(f"| {name} | {len(hits[0])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
