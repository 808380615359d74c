"""Parse a prompt into targets: object classes with their counts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from countgen.critics.vocabulary import singular
from countgen.errors import PromptError
from countgen.prompts.placeholders import spelled_out
from countgen.prompts.reader import Reader

MAX_PROMPT_LENGTH = 500
"""Characters; text encoders truncate prompts to 77 to 120 tokens without an error."""

MAX_TARGET_COUNT = 1000
"""Largest count of a target; critics evaluate at most 1024 candidates."""

_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Target:
    """An object class and the number of its objects in an image.

    Attributes:
        object_name: singular, lower case, as the critic or the prompt names it.
        target_count: 1 to 1000.

    Raises:
        PromptError: an empty name or a count outside the range.
    """

    object_name: str
    target_count: int

    def __post_init__(self) -> None:
        if not self.object_name.strip():
            raise PromptError(f"a target needs the name of an object, got {self.object_name!r}")
        if type(self.target_count) is not int or not 1 <= self.target_count <= MAX_TARGET_COUNT:
            raise PromptError(
                f"{self.object_name}: the count must be a whole number from 1 to {MAX_TARGET_COUNT}, "
                f"got {self.target_count!r}"
            )


def parse(prompt: str, known_names: Sequence[str] | None = None) -> tuple[Target, ...]:
    """Read the targets of an English prompt, in the order of the prompt.

    An object that is named twice ("a red apple and a green apple", "a cat and two kittens" where kittens count as
    cats) is one target with the sum.

    Args:
        prompt: up to 500 characters.
        known_names: the classes of the critic, which tell names of several words ("teddy bear") and the scenery in
            which "a" counts one; what follows a number counts in any case. None for an open vocabulary.

    Raises:
        PromptError: empty or too long, no count, a count of zero, or several readings.

    >>> parse("a photo of seven apples and two dogs")
    (Target(object_name='apple', target_count=7), Target(object_name='dog', target_count=2))
    """
    check_prompt(prompt)
    counts = Reader(spelled_out(prompt), known_names).read()
    return tuple(Target(name, count) for name, count in counts.items())


def parses_to(prompt: str, targets: Sequence[Target], known_names: Sequence[str] | None = None) -> bool:
    """Return whether `parse` reads these targets; False for a prompt that it cannot read."""
    try:
        return parse(prompt, known_names) == tuple(targets)
    except PromptError:
        return False


def check_prompt(prompt: str) -> None:
    """Check that a text encoder can read a prompt, whether or not the targets come from it.

    Raises:
        PromptError: empty, not a string, more than 500 characters, a lone surrogate, or a character that changes the
            direction of the text.
    """
    if not isinstance(prompt, str) or not prompt.strip():
        raise PromptError(f"the prompt is empty ({prompt!r}); write what to generate, for example 'seven apples'")
    if len(prompt) > MAX_PROMPT_LENGTH:
        raise PromptError(f"the prompt has {len(prompt)} characters; at most {MAX_PROMPT_LENGTH} are read, shorten it")
    for at, character in enumerate(prompt, start=1):
        # A surrogate has no UTF-8; after a change of direction, "12" is shown as "21".
        if unicodedata.category(character) == "Cs" or character in _TURNING:
            raise PromptError(f"character {at} of the prompt is {character!r}, which is not text; leave it out")


def targets_from(text: str) -> tuple[Target, ...]:
    """Return the targets in a text "NAME=COUNT,...", for prompts that `parse` cannot read.

    Args:
        text: "apple=7" or "apple=7,wine glass=2"; names may be singular or plural.

    Raises:
        PromptError: another form, a count that is not a whole number from 1 to 1000, or an object named twice.
    """
    targets: dict[str, Target] = {}
    for assignment in text.split(","):
        name, equals, count = assignment.partition("=")
        if not (equals and name.strip() and re.fullmatch(r"[-+]?\d+", count.strip())):
            raise PromptError(
                f"cannot read {assignment.strip()!r} in {text!r}; write NAME=COUNT, for example apple=7,dog=2"
            )
        target = Target(singular(name), int(count))
        if target.object_name in targets:
            raise PromptError(f"{target.object_name!r} is given twice in {text!r}; give every object one count")
        targets[target.object_name] = target
    return tuple(targets.values())
