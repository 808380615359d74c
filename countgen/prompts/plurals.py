"""Form the plural of an object's name for prompts."""

from __future__ import annotations

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
