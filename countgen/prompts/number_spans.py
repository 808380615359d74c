"""Find the position of an object class's number in a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from countgen.errors import PromptError
from countgen.prompts.number_words import number_word
from countgen.prompts.parser import Target, parses_to
from countgen.prompts.placeholders import numbers_in, spelled_out


def number_span(
    prompt: str, target: Target, targets: Sequence[Target], known_names: Sequence[str] | None
) -> tuple[int, int]:
    """Return start and end of the one number in a prompt that is the count of a target.

    The number is found by trial: changing this number changes the count of this target alone.

    Args:
        prompt: as given; positions refer to the prompt with placeholders spelled out.
        target: one of `targets`.
        targets: all targets of the prompt.
        known_names: as `parse` takes them.

    Raises:
        PromptError: the prompt has none or several such numbers, or other targets.
    """
    text = spelled_out(prompt)
    one_more = tuple(Target(other.object_name, other.target_count + (other == target)) for other in targets)
    spans = [
        (start, end)
        for start, end, value in numbers_in(prompt)
        if parses_to(text[:start] + number_word(value + 1) + text[end:], one_more, known_names)
    ]
    if len(spans) != 1 or not parses_to(text, targets, known_names):
        count = f"{len(spans)} numbers say" if len(spans) > 1 else "no number says"
        raise PromptError(
            f"{count} in {prompt!r} how many {target.object_name!r} to generate, and the number slider moves one "
            f"number; write one for each object class, such as '{number_word(target.target_count)}', or leave the "
            "number offset out"
        )
    return spans[0]
