"""The plural of an object's name, as prompts need it."""

from __future__ import annotations

from functools import cache

from critics.vocabulary import PLURAL_ONLY, english


@cache
def plural(noun: str) -> str:
    """Return the plural of an English noun phrase in the singular; what has no other plural comes back as it is.

    >>> plural("strawberry"), plural("fish"), plural("teddy bear"), plural("scissors")
    ('strawberries', 'fish', 'teddy bears', 'scissors')
    """
    return noun if noun in PLURAL_ONLY else str(english().plural_noun(noun))


def counted(noun: str, count: int) -> str:
    """Return a noun as it stands after a number.

    >>> counted("apple", 1), counted("apple", 7)
    ('apple', 'apples')
    """
    return noun if count == 1 else plural(noun)
