"""The plan of a set: which objects, how many of them, in which scenes, how many images of each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated

import yaml
from msgspec import Meta, field

from countgen.critics.vocabulary import singular
from countgen.files.printable import printable
from countgen.files.reading import read_text
from countgen.files.schema import Document, Name, converted
from countgen.methods.seeds import SEED_STRIDE
from countgen.prompts import Target
from countgen.prompts.number_words import number_word
from countgen.prompts.plurals import counted

OBJECTS = "{objects}"
MAX_COUNT = 100
"""Most objects of a class in an image."""
MAX_IMAGES = 1_000_000
MAX_BYTES = 2**20
"""Largest size of a plan file."""
MAX_SEED = 2**32

Probability = Annotated[float, Meta(gt=0, lt=1)]
Fraction = Annotated[float, Meta(gt=0, le=1)]
Splits = Annotated[dict[Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,40}$")], Fraction], Meta(min_length=1)]
Positive = Annotated[int, Meta(ge=1, le=MAX_IMAGES)]


class Group(Document, frozen=True, kw_only=True):
    """Cells that differ in counts and templates: every combination is one.

    Attributes:
        objects: count of each object class in one image: a number, or a range such as "1-10".
        templates: prompts with `{objects}` where numbers and names stand.
        images: of each cell.
        sure: probability of a right count from which on an image is accepted.
        max_seeds: seeds drawn for an image, on average over a cell, before the cell is given up.
        negative: the objects are not annotated, and no class of the other groups is to be seen.

    Raises:
        ValueError: a count outside 1 to 100, or a template without `{objects}`.
    """

    objects: Annotated[dict[Name, int | str], Meta(min_length=1)]
    templates: Annotated[tuple[Name, ...], Meta(min_length=1)] = (f"a photo of {OBJECTS}",)
    images: Positive = 1
    sure: Probability = 0.95
    max_seeds: Positive = 100
    negative: bool = False

    def __post_init__(self) -> None:
        for name, count in self.objects.items():
            counts_of(name, count)
        for template in self.templates:
            if template.count(OBJECTS) != 1:
                raise ValueError(
                    f"the template {template!r} must hold {OBJECTS} once, where the number and the name stand, such as "
                    f"'a photo of {OBJECTS}'"
                )


class Plan(Document, frozen=True, kw_only=True):
    """All groups of cells.

    Attributes:
        groups: in the order in which they are generated.
        splits: fraction of each split; every cell is divided among them, and no two images share a seed.
        seed: the first one.

    Raises:
        ValueError: fractions that do not sum to 1, more images than a million, or no class to annotate.
    """

    groups: Annotated[tuple[Group, ...], Meta(min_length=1)]
    splits: Splits = field(default_factory={"train": 0.8, "val": 0.2}.copy)
    seed: Annotated[int, Meta(ge=0, lt=MAX_SEED)] = 0

    def __post_init__(self) -> None:
        if abs(sum(self.splits.values()) - 1) > 1e-6:
            raise ValueError(f"the splits {self.splits} must be fractions that sum to 1, such as train=0.8 and val=0.2")
        if not self.classes:
            raise ValueError("all groups are negative; give one whose objects are annotated")
        if self.number_of_images > MAX_IMAGES:
            raise ValueError(f"the plan has {self.number_of_images} images, at most {MAX_IMAGES} are generated")
        if self.next_seed > MAX_SEED:
            raise ValueError("the plan needs seeds above 2**32: lower its seed, its images or max_seeds")

    @property
    def classes(self) -> tuple[str, ...]:
        """The annotated classes in the order of the plan, singular."""
        return tuple(
            dict.fromkeys(singular(name) for group in self.groups if not group.negative for name in group.objects)
        )

    @property
    def number_of_images(self) -> int:
        """Number of images asked for."""
        return sum(cell.group.images for cell in self.cells())

    @property
    def next_seed(self) -> int:
        """First seed from which on another plan shares none with this one."""
        attempts = sum(cell.max_attempts for cell in self.cells())
        return self.seed + -(-attempts // SEED_STRIDE) * SEED_STRIDE * self._most_seeds

    @property
    def _most_seeds(self) -> int:
        return max(group.max_seeds for group in self.groups)

    def seed_of(self, attempt: int) -> int:
        """Return the first seed of an attempt.

        A search goes on from seed s to s + SEED_STRIDE, s + 2 SEED_STRIDE, ..., at most `max_seeds` of them, so that no
        two attempts share one.
        """
        block, offset = divmod(attempt, SEED_STRIDE)
        return self.seed + block * SEED_STRIDE * self._most_seeds + offset

    def cells(self) -> Iterator[Cell]:
        """Yield the cells in their order."""
        index = first_image = first_attempt = 0
        for group in self.groups:
            counts = [
                [Target(singular(name), n) for n in counts_of(name, count)] for name, count in group.objects.items()
            ]
            for template, targets in product(group.templates, list(product(*counts))):
                cell = Cell(index, group, template, targets, first_image, first_attempt)
                yield cell
                index, first_image = index + 1, first_image + group.images
                first_attempt += cell.max_attempts

    def split_of_images(self) -> list[str]:
        """Return the split of each image by its number.

        Each image goes to the split that lacks most, so that any stretch of images, a cell or several small ones, is
        divided as the whole set.
        """
        taken, splits = dict.fromkeys(self.splits, 0), list[str]()
        for number in range(1, self.number_of_images + 1):
            splits.append(max(taken, key=lambda split: self.splits[split] * number - taken[split]))
            taken[splits[-1]] += 1
        return splits


@dataclass(frozen=True)
class Cell:
    """Images of the same objects, counts and template.

    Attributes:
        index: 0, 1, ... in the plan.
        group: of the plan.
        template: one of the group's.
        targets: objects and their counts.
        first_image, first_attempt: numbers of its first image and of its first attempt in the whole plan.
    """

    index: int
    group: Group
    template: str
    targets: tuple[Target, ...]
    first_image: int
    first_attempt: int

    @property
    def max_attempts(self) -> int:
        """Most attempts, each of which draws at least one seed."""
        return self.group.images * self.group.max_seeds

    @property
    def counts(self) -> dict[str, int]:
        """Count by class."""
        return {target.object_name: target.target_count for target in self.targets}

    @property
    def prompt(self) -> str:
        """The template with numbers in words: "a photo of three apples and two cats"."""
        *others, last = (f"{number_word(count)} {counted(name, count)}" for name, count in self.counts.items())
        return self.template.replace(OBJECTS, f"{', '.join(others)} and {last}" if others else last)


def counts_of(name: str, count: int | str) -> range:
    """Return the counts in 7, "7" or "1-10".

    Raises:
        ValueError: anything else, or outside 1 to 100.
    """
    match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", str(count))
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last <= MAX_COUNT:
        raise ValueError(
            f"{printable(name, 100)}: a count is a number from 1 to {MAX_COUNT} or a range such as 1-10, got "
            f"{printable(count, 100)}; images without a class are a group of other objects with negative: true"
        )
    return range(first, last + 1)


def read_plan(path: str | Path) -> Plan:
    """Return the plan in a YAML or JSON file.

    Raises:
        ValueError: no YAML, or not a plan; the message names the field.
        OSError: the file is missing or cannot be read.
    """
    text = read_text(path, MAX_BYTES)
    try:
        # An alias could stand for itself, or for a billion copies of it.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("it has an alias (*name); write the value out")
        return converted(yaml.safe_load(text), Plan)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{printable(path)} is not a plan: {printable(error, 400)}") from error
