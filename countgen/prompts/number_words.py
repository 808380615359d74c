"""Read whole numbers, in words or digits, from a list of words."""

from __future__ import annotations

import re
from collections.abc import Sequence

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen".split()
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_VALUES = {word: value for value, word in enumerate(_UNITS)} | {
    word: 10 * value for value, word in enumerate(_TENS, start=2)
}
_DIGITS = re.compile(r"\d{1,500}|\d{1,3}(?:,\d{3}){1,100}")
_POWERS = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
SMALL_GROUPS = {"couple": 2, "couples": 2, "pair": 2, "pairs": 2, "duo": 2, "trio": 3, "quartet": 4, "score": 20}
"""Words that are also nouns of their own ("a couple dancing"); they are numbers only before a plural."""
GROUPS = {"dozen": 12, "dozens": 12, **SMALL_GROUPS, **_POWERS}
_HALF_DOZEN = re.compile(r"(?:a )?half[ -](?:a[ -])?dozen\b")


def value_of(word: str) -> int | None:
    """Return the value of one word: "7", "1,000", "seven", "twenty-one"; None for anything else."""
    if _DIGITS.fullmatch(word):
        return int(word.replace(",", ""))
    if word in _VALUES:
        return _VALUES[word]
    tens, hyphen, unit = word.partition("-")
    if hyphen and tens in _TENS and unit in _UNITS[1:10]:
        return _VALUES[tens] + _VALUES[unit]
    return None


def number_word(value: int) -> str:
    """Return a whole number as prompts write it: in words below a hundred, then in digits."""
    for word, known in _VALUES.items():
        if known == value:
            return word
    tens, unit = divmod(value, 10)
    return f"{_TENS[tens - 2]}-{_UNITS[unit]}" if value < 100 else str(value)


def word_at(words: Sequence[str], at: int) -> str:
    """Return a word, or "" before the first and behind the last one."""
    return words[at] if 0 <= at < len(words) else ""


def read_number(words: Sequence[str], start: int) -> tuple[int, int, bool] | None:
    """Read one cardinal number that begins at words[start].

    Returns:
        (value, index after the number, whether the last word was "pair"), or None if no number begins there.
        "a" counts only as part of a number ("a dozen", "half a dozen", "a hundred and five").
    """
    if start >= len(words):
        return None
    if half := _HALF_DOZEN.match(" ".join(words[start : start + 4])):
        return 6, _after_of(words, start + len(half[0].split())), False
    at = start + 1
    value = 1 if words[start] in ("a", "an") and word_at(words, at) in GROUPS else value_of(words[start])
    if value is None:
        return None
    if words[start] in _TENS and word_at(words, at) in _UNITS[1:10]:
        value += _VALUES[words[at]]  # "twenty one", written without a hyphen
        at += 1
    group = word_at(words, at)
    if group not in GROUPS:
        return value, at, False
    value, at = value * GROUPS[group], at + 1
    while word_at(words, at) in _POWERS:  # "a hundred thousand"
        group = words[at]
        value, at = value * _POWERS[group], at + 1
    if group in _POWERS:
        more = at + 1 if word_at(words, at) == "and" else at
        rest = read_number(words, more)
        if rest is not None and rest[0] < _POWERS[group] and words[more] not in ("a", "an", "half"):
            return value + rest[0], rest[1], rest[2]
    return value, _after_of(words, at), group.startswith("pair")


def _after_of(words: Sequence[str], at: int) -> int:
    """Return the index after an "of", as in "a couple of cats"."""
    return at + 1 if word_at(words, at) == "of" else at
