"""Form the plural of an object's name for prompts."""

from __future__ import annotations

from critics.vocabulary import plural

__all__ = ["counted", "plural"]


def counted(noun: str, count: int) -> str:
    """Return a noun in the form that follows a number.

    >>> counted("apple", 1), counted("apple", 7)
    ('apple', 'apples')
    """
    return noun if count == 1 else plural(noun)
