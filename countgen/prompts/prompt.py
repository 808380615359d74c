"""A prompt as a value: its text, the numbers in it, and what they count."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from countgen.errors import PromptError
from countgen.prompts.number_words import number_word, read_number
from countgen.prompts.words import Span, words_of

MAX_PROMPT_LENGTH = 500
"""Characters; text encoders truncate prompts to 77 to 120 tokens without an error."""

MAX_TARGET_COUNT = 1000
"""Largest count of a target; critics evaluate at most 1024 candidates."""

PLACEHOLDER = re.compile(r"<count-([1-9]\d{0,3})>")
"""The placeholder of a count token: "<count-7> apples" is "seven apples" with a trained token."""

_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Target:
    """An object class and the number of its objects in an image.

    Attributes:
        object_name: singular, lower case, as the critic or the prompt names it.
        target_count: 1 to 1000.

    Raises:
        PromptError: an empty name or a count outside the range.
    """

    object_name: str
    target_count: int

    def __post_init__(self) -> None:
        if not self.object_name.strip():
            raise PromptError(f"a target needs the name of an object, got {self.object_name!r}")
        if type(self.target_count) is not int or not 1 <= self.target_count <= MAX_TARGET_COUNT:
            raise PromptError(
                f"{self.object_name}: the count must be a whole number from 1 to {MAX_TARGET_COUNT}, "
                f"got {self.target_count!r}"
            )


class Place(NamedTuple):
    """A place where a prompt counts objects; "a red apple and a green apple" counts apples at two.

    Attributes:
        object_name: of the target.
        number: characters of the number or article.
        noun: characters of the noun's last word.
        is_article: whether "a", "an" or "another" counts one.
    """

    object_name: str
    number: Span
    noun: Span
    is_article: bool


@dataclass(frozen=True)
class Prompt:
    """A prompt's text and targets; `countgen.prompts.read` makes one, and everything else takes it.

    Attributes:
        given: as the user wrote it, at most 500 characters.
        targets: object classes and counts, in the order of the prompt.
        places: where the text counts them; empty if the targets are not those of the text.

    Raises:
        PromptError: as `check_prompt`.
    """

    given: str
    targets: tuple[Target, ...] = ()
    places: tuple[Place, ...] = ()

    def __post_init__(self) -> None:
        check_prompt(self.given)

    def __str__(self) -> str:
        return self.given

    @cached_property
    def text(self) -> str:
        """The prompt with placeholders replaced by number words; spans refer to it.

        >>> Prompt("a photo of <count-7> apples").text
        'a photo of seven apples'
        """
        return PLACEHOLDER.sub(lambda match: number_word(int(match[1])), self.given)

    @cached_property
    def words(self) -> tuple[list[str], list[Span]]:
        """The words of the text and their characters, see `countgen.prompts.words.words_of`."""
        return words_of(self.text)

    @cached_property
    def numbers(self) -> dict[Span, int]:
        """The value of every number in the text by its characters.

        >>> Prompt("a photo of seven apples and 2 dogs").numbers
        {(11, 16): 7, (28, 29): 2}
        """
        words, spans = self.words
        numbers, at = dict[Span, int](), 0
        while at < len(words):
            value, end, _ = read_number(words, at) or (None, at + 1, False)
            if value is not None:
                numbers[spans[at][0], spans[end - 1][1]] = value
            at = end
        return numbers

    def replaced(self, texts: Mapping[Span, str]) -> str:
        """Return the text with other words in place of some characters."""
        text = self.text
        for (start, end), written in sorted(texts.items(), reverse=True):
            text = text[:start] + written + text[end:]
        return text

    def with_placeholder(self, target_count: int) -> str:
        """Return the text with every number of that value replaced by its placeholder.

        >>> Prompt("a photo of seven apples and 2 dogs").with_placeholder(7)
        'a photo of <count-7> apples and 2 dogs'

        Raises:
            PromptError: the prompt does not have the number.
        """
        placeholder = placeholder_of(target_count)
        written = {span: placeholder for span, value in self.numbers.items() if value == target_count}
        if not written:
            raise PromptError(
                f"the token {placeholder} has no place in {self.given!r}: write {number_word(target_count)!r} or the "
                "placeholder in place of the number"
            )
        return self.replaced(written)


def placeholder_of(target_count: int) -> str:
    """Return the placeholder for the token of a count: "<count-7>"."""
    return f"<count-{target_count}>"


def check_prompt(prompt: str) -> None:
    """Check that a text encoder can read a prompt, whether or not the targets come from it.

    Raises:
        PromptError: empty, not a string, more than 500 characters, a lone surrogate, or a character that changes the
            direction of the text.
    """
    if not isinstance(prompt, str) or not prompt.strip():
        raise PromptError(f"the prompt is empty ({prompt!r}); write what to generate, for example 'seven apples'")
    if len(prompt) > MAX_PROMPT_LENGTH:
        raise PromptError(f"the prompt has {len(prompt)} characters; at most {MAX_PROMPT_LENGTH} are read, shorten it")
    for at, character in enumerate(prompt, start=1):
        # A surrogate has no UTF-8; after a change of direction, "12" is shown as "21".
        if unicodedata.category(character) == "Cs" or character in _TURNING:
            raise PromptError(f"character {at} of the prompt is {character!r}, which is not text; leave it out")
