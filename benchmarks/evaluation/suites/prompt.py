"""One line of a suite: a prompt and its targets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from countgen.prompts import Target, check_prompt

LEVELS = {"easy": 5, "medium": 10, "hard": 15, "beyond": math.inf}
"""The largest count of each level; the first three are T2ICountBench's."""


@dataclass(frozen=True)
class Prompt:
    """A prompt and its targets.

    Attributes:
        prompt: in English, at most 500 characters.
        targets: object classes and counts; at least one, each object once.
        suite: the name of the suite, or of the file.
        tags: for grouping, for example "category", "scene" and "style". A tag "seed" is the prompt's
            own seed.

    Raises:
        ValueError: an empty or too long prompt, no target, an object named twice, or a tag "seed" that is none.
    """

    prompt: str
    targets: tuple[Target, ...]
    suite: str
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_prompt(self.prompt)
        names = [target.object_name for target in self.targets]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"{self.prompt!r} needs one target for each object, got {names}")
        seed = self.tags.get("seed", "0")
        if not (seed.isascii() and seed.isdecimal() and int(seed[:11]) < 2**32):
            raise ValueError(f"the seed must be a whole number from 0 to 2**32 - 1, got {seed!r}")

    @property
    def total(self) -> int:
        """Sum of the target counts."""
        return sum(target.target_count for target in self.targets)

    @property
    def level(self) -> str:
        """Level of the total: "easy" (1-5), "medium" (6-10), "hard" (11-15) or "beyond"."""
        return next(name for name, last in LEVELS.items() if self.total <= last)
