"""Change the numbers in a prompt: "seven apples and two dogs" with five apples is "five apples and two dogs"."""

from __future__ import annotations

from collections.abc import Sequence

from countgen.critics.vocabulary import singular
from countgen.errors import PromptError
from countgen.prompts.number_words import number_word
from countgen.prompts.parser import read
from countgen.prompts.plurals import counted
from countgen.prompts.prompt import Prompt, Target


def recounted(prompt: str, targets: tuple[Target, ...], known_names: Sequence[str] | None = None) -> Prompt:
    """Return the prompt with its numbers, and the nouns after them, changed to those of targets.

    >>> str(recounted("a photo of seven apples and 2 dogs", (Target("apple", 5), Target("dog", 1))))
    'a photo of five apples and one dog'

    Args:
        prompt: one that `parse` reads; placeholders of count tokens are spelled out.
        targets: one for each object of the prompt, in the same order.
        known_names: as `parse` takes them.

    Raises:
        PromptError: the prompt cannot be read or has other objects, or one of its numbers cannot be replaced.
    """
    old = read(prompt, known_names)
    counts = {new.object_name: new.target_count for new in targets if new not in old.targets}
    texts = {}
    for place in old.places:
        if (count := counts.get(place.object_name)) is not None:
            noun = old.text[slice(*place.noun)]
            was_one = Target(place.object_name, 1) in old.targets
            texts[place.number] = number_word(count)
            texts[place.noun] = noun if was_one == (count == 1) else counted(singular(noun), count)
    new = read(old.replaced(texts), known_names, targets)
    if not new.places:
        wanted = ", ".join(f"{target.object_name}={target.target_count}" for target in targets)
        raise PromptError(
            f"cannot write {wanted} into {prompt!r}: none of its numbers can be replaced; generate a new image"
        )
    return new
