"""Placeholders of count tokens in prompts: "<count-7> apples" is "seven apples" with a trained token."""

from __future__ import annotations

import re

from countgen.errors import PromptError
from countgen.prompts.number_words import number_word, read_number

PLACEHOLDER = re.compile(r"<count-([1-9]\d{0,3})>")
_WORD = re.compile(r"\d{1,3}(?:,\d{3})+|\d+|[^\W\d_][\w'’-]*")


def placeholder_of(target_count: int) -> str:
    """Return the placeholder for the token of a count: "<count-7>"."""
    return f"<count-{target_count}>"


def spelled_out(prompt: str) -> str:
    """Return the prompt with placeholders replaced by number words.

    >>> spelled_out("a photo of <count-7> apples")
    'a photo of seven apples'
    """
    return PLACEHOLDER.sub(lambda match: number_word(int(match[1])), prompt)


def with_placeholder(prompt: str, target_count: int) -> str:
    """Return the prompt with every number of that value replaced by its placeholder.

    >>> with_placeholder("a photo of seven apples and 2 dogs", 7)
    'a photo of <count-7> apples and 2 dogs'

    Raises:
        PromptError: the prompt does not have the number.
    """
    numbers = numbers_in(prompt)
    if all(value != target_count for _, _, value in numbers):
        raise PromptError(
            f"the token {placeholder_of(target_count)} has no place in {prompt!r}: write "
            f"{number_word(target_count)!r} or the placeholder in place of the number"
        )
    text = spelled_out(prompt)
    for start, end, value in reversed(numbers):
        if value == target_count:
            text = text[:start] + placeholder_of(target_count) + text[end:]
    return text


def numbers_in(prompt: str, articles: bool = False) -> list[tuple[int, int, int]]:
    """Return start, end and value of every number in a prompt with placeholders spelled out, if asked with "a" as 1.

    >>> numbers_in("a photo of seven apples and 2 dogs")
    [(11, 16, 7), (28, 29, 2)]
    """
    matches = list(_WORD.finditer(spelled_out(prompt)))
    words = [match[0].lower() for match in matches]
    numbers, at = [], 0
    while at < len(words):
        article = 1 if articles and words[at] in ("a", "an") else None
        value, end, _ = read_number(words, at) or (article, at + 1, False)
        if value is not None:
            numbers.append((matches[at].start(), matches[end - 1].end(), value))
        at = end
    return numbers
