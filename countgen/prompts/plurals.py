"""Form the plural of an object's name, for prompts and for counts in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from countgen.critics import NO_ANSWER
from countgen.critics.vocabulary import plural, singular


def counted(noun: str, count: int) -> str:
    """Return a noun in the form that follows a number.

    >>> counted("apple", 1), counted("apple", 7)
    ('apple', 'apples')
    """
    return noun if count == 1 else plural(noun)


def counted_in_words(counts: Mapping[str, int]) -> str:
    """Return counts by object name as text.

    >>> counted_in_words({"apples": 1, "dog": 2})
    '1 apple, 2 dogs'
    """
    return ", ".join(f"{count} {counted(singular(name), count)}" for name, count in counts.items())


def counts_in_words(counts: Sequence[int | None], targets: Mapping[str, int]) -> str:
    """Return counts beside their target counts; a judge that gave no answer has None or `critics.NO_ANSWER`.

    >>> counts_in_words([7], {"apple": 7}), counts_in_words([3, None], {"cat": 3, "dog": 1})
    ('7 of 7 apples', '3 of 3 cats and no answer of 1 dog')
    """
    return " and ".join(
        f"{'no answer' if count in (None, NO_ANSWER) else count} of {target} {counted(name, target)}"
        for count, (name, target) in zip(counts, targets.items(), strict=True)
    )


def differences_in_words(counts: Sequence[int | None], targets: Mapping[str, int]) -> str:
    """Return how far counts are from their target counts; empty if none is known to be wrong.

    >>> differences_in_words([5], {"apple": 7}), differences_in_words([3, 2], {"cat": 3, "dog": 1})
    ('2 apples too few', '1 dog too many')
    """
    known = zip(counts, targets.items(), strict=True)
    wrong = [(count - target, name) for count, (name, target) in known if count is not None and count != NO_ANSWER]
    return " and ".join(
        f"{abs(more)} {counted(name, abs(more))} too {'many' if more > 0 else 'few'}" for more, name in wrong if more
    )
