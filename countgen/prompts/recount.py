"""Change the numbers in a prompt: "seven apples and two dogs" with five apples is "five apples and two dogs"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from countgen.errors import PromptError
from countgen.prompts.number_words import number_word
from countgen.prompts.parser import Target, parse, parses_to
from countgen.prompts.placeholders import numbers_in, spelled_out
from countgen.prompts.plurals import counted


def recounted(prompt: str, targets: Sequence[Target], known_names: Sequence[str] | None = None) -> str:
    """Return the prompt with its numbers, and the nouns after them, changed to those of targets.

    >>> recounted("a photo of seven apples and 2 dogs", (Target("apple", 5), Target("dog", 1)))
    'a photo of five apples and one dog'

    Args:
        prompt: one that `parse` reads; placeholders of count tokens are spelled out.
        targets: one for each object of the prompt, in the same order.
        known_names: as `parse` takes them.

    Raises:
        PromptError: the prompt has other objects, or none of its numbers can be replaced.
    """
    text = spelled_out(prompt)
    for position, target in enumerate(targets):
        current = parse(text, known_names)
        if [other.object_name for other in current] != [other.object_name for other in targets]:
            break
        if current[position] == target:
            continue
        wanted = (*current[:position], target, *current[position + 1 :])
        # The parser decides which of the numbers is this object's.
        candidates = _replaced(text, current[position], target)
        changed = next((new for new in candidates if parses_to(new, wanted, known_names)), None)
        if changed is None:
            break
        text = changed
    else:
        return text
    wanted_counts = ", ".join(f"{target.object_name}={target.target_count}" for target in targets)
    raise PromptError(
        f"cannot write {wanted_counts} into {prompt!r}: none of its numbers can be replaced; generate a new image"
    )


def _replaced(text: str, old: Target, new: Target) -> Iterator[str]:
    """Yield the text with each number that has the old value replaced, the last one first."""
    noun_before, noun = (counted(new.object_name, target.target_count) for target in (old, new))
    for start, end, value in reversed(numbers_in(text, articles=True)):
        if value != old.target_count:
            continue
        rest = re.sub(rf"\b{re.escape(noun_before)}\b", noun, text[end:], count=1, flags=re.IGNORECASE)
        yield f"{text[:start]}{number_word(new.target_count)}{rest}"
