"""Parse a prompt into targets: object classes with their counts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from countgen.critics.vocabulary import singular
from countgen.errors import PromptError
from countgen.prompts.prompt import Prompt, Target
from countgen.prompts.reader import Reader


def read(
    prompt: str | Prompt, known_names: Sequence[str] | None = None, targets: tuple[Target, ...] | None = None
) -> Prompt:
    """Return the `Prompt` of a text: its targets, and where the text states them.

    Args:
        prompt: a text of up to 500 characters; a `Prompt` is returned as it is.
        known_names: as `parse` takes them.
        targets: to count in place of those of the text, which may then be any text.

    Raises:
        PromptError: as `parse`.
    """
    if isinstance(prompt, Prompt):
        return prompt
    unread = Prompt(prompt)
    try:
        counts, places = Reader(unread, known_names).read()
        stated = tuple(Target(name, count) for name, count in counts.items())
    except PromptError:
        if not targets:
            raise
        return replace(unread, targets=targets)
    return replace(unread, targets=targets or stated, places=places if targets in (None, stated) else ())


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
    return read(prompt, known_names).targets


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
