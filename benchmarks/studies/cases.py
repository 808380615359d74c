"""Prompts with known targets for the embedded models, and which seeds are for tuning and which for reporting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from countgen.miniature.world import NUMBER_WORDS, OBJECT_NAMES, PLURALS
from countgen.prompts import Target

SEEDS = {"tuning": 50_000, "reporting": 700_000}
"""Where the seeds of each purpose start; whatever is chosen on one is never reported on it."""


@dataclass(frozen=True)
class Case:
    """One prompt and seed.

    Attributes:
        prompt: in English.
        targets: what it asks for.
        seed: of the run.
    """

    prompt: str
    targets: tuple[Target, ...]
    seed: int


def one_class(counts: Sequence[int], pairs: int, purpose: str) -> list[Case]:
    """`pairs` cases per count, "a photo of seven apples", every object as often as any other."""
    cases = []
    for count in counts:
        first = SEEDS[purpose] + 1000 * count
        objects = np.random.default_rng(first).permutation(len(OBJECT_NAMES))
        for k in range(pairs):
            kind = int(objects[k % len(objects)])
            cases.append(Case(f"a photo of {phrase(kind, count)}", (target(kind, count),), first + k))
    return cases


def phrase(kind: int, count: int) -> str:
    """Number word and noun."""
    return f"{NUMBER_WORDS[count]} {OBJECT_NAMES[kind] if count == 1 else PLURALS[kind]}"


def target(kind: int, count: int) -> Target:
    """A target by the world's index of the object."""
    return Target(OBJECT_NAMES[kind], count)
