"""Where in a prompt the number of an object class stands."""

from __future__ import annotations

from collections.abc import Sequence

from countgen.errors import PromptError
from countgen.prompts.number_words import number_word
from countgen.prompts.parser import Target, parse
from countgen.prompts.placeholders import numbers_in, spelled_out


def with_number(text: str, start: int, end: int, value: int) -> str:
    """Return the text with a number word in the place of the characters from start to end.

    >>> with_number("a photo of seven apples", 11, 16, 9)
    'a photo of nine apples'
    """
    return text[:start] + number_word(value) + text[end:]


def number_span(
    prompt: str, target: Target, targets: Sequence[Target], known_names: Sequence[str] | None
) -> tuple[int, int]:
    """Return start and end of the one number that says how many of a target the prompt asks for.

    It is found by trial: the number whose change changes the count of this target alone.

    Args:
        prompt: as it was given; the characters are those of the prompt with placeholders spelled out.
        target: one of `targets`.
        targets: all that the prompt asks for.
        known_names: as `parse` takes them.

    Raises:
        PromptError: no number or several say it, or the prompt asks for something else than the targets.
    """
    text = spelled_out(prompt)
    one_more = tuple(Target(other.object_name, other.target_count + (other == target)) for other in targets)
    found = [
        (start, end)
        for start, end, value in numbers_in(prompt)
        if _said(with_number(text, start, end, value + 1), known_names) == one_more
    ]
    if len(found) != 1 or _said(text, known_names) != tuple(targets):
        count = f"{len(found)} numbers say" if len(found) > 1 else "no number says"
        raise PromptError(
            f"{count} in {prompt!r} how many of {target.object_name!r} there shall be, and the number slider moves "
            f"one; write one number for each object class, such as '{number_word(target.target_count)}', or leave the "
            "number offset out"
        )
    return found[0]


def _said(text: str, known_names: Sequence[str] | None) -> tuple[Target, ...] | None:
    try:
        return parse(text, known_names)
    except PromptError:
        return None
