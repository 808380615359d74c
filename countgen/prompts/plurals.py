"""Form the plural of an object's name, for prompts and for counts in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from critics.vocabulary import PLURAL_ONLY, english


@cache
def plural(noun: str) -> str:
    """Return the plural of an English noun phrase in the singular; one without another plural is returned unchanged.

    >>> plural("strawberry"), plural("fish"), plural("teddy bear"), plural("scissors")
    ('strawberries', 'fish', 'teddy bears', 'scissors')
    """
    return noun if noun in PLURAL_ONLY else str(english().plural_noun(noun))


def counted(noun: str, count: int) -> str:
    """Return a noun in the form that follows a number.

    >>> counted("apple", 1), counted("apple", 7)
    ('apple', 'apples')
    """
    return noun if count == 1 else plural(noun)


def counts_in_words(counts: Sequence[int], targets: Mapping[str, int]) -> str:
    """Return counts beside their target counts.

    >>> counts_in_words([7], {"apple": 7}), counts_in_words([3, 0], {"cat": 3, "dog": 1})
    ('7 of 7 apples', '3 of 3 cats and 0 of 1 dog')
    """
    named = zip(counts, targets.items(), strict=True)
    return " and ".join(f"{count} of {target} {counted(name, target)}" for count, (name, target) in named)


def differences_in_words(counts: Sequence[int], targets: Mapping[str, int]) -> str:
    """Return how far counts are from their target counts; empty where all are right.

    >>> differences_in_words([5], {"apple": 7}), differences_in_words([3, 2], {"cat": 3, "dog": 1})
    ('2 apples too few', '1 dog too many')
    """
    wrong = [(count - target, name) for count, (name, target) in zip(counts, targets.items(), strict=True)]
    return " and ".join(
        f"{abs(more)} {counted(name, abs(more))} too {'many' if more > 0 else 'few'}" for more, name in wrong if more
    )
