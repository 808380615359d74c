"""Parse a prompt into targets: object classes with their counts.

The rules, in the order they are applied:

- A number in words, in digits or as the placeholder of a count token ("<count-7>") starts a target; the noun phrase
  after it names the object. "a" and "an" count one, at the start and after "and" or a comma; "another" counts one
  more anywhere.
- The noun phrase ends at its plural, at a preposition or at "and". What follows ("on a table", "with a red hat") is
  scenery, in which only numbers start a target ("three cats on two chairs").
- The object is the longest ending of the phrase that the critic knows, under its own name or a synonym of it,
  otherwise its last word.
- A prompt without a reading or with more than one ("a few apples", "2 or 3 apples", "not seven apples", "twice two
  apples", "2² apples", "half of seven apples") is an error that shows how to write it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from countgen.critics.vocabulary import PLURAL_ONLY, can_be_plural, singular, spellings
from countgen.errors import PromptError
from countgen.prompts.noun_phrase import MEDIUMS, PREPOSITIONS, SEPARATORS, read_noun_phrase
from countgen.prompts.number_words import GROUPS, SMALL_GROUPS, read_number
from countgen.prompts.placeholders import spelled_out
from countgen.prompts.words import ODD_NUMBER, unreadable, words_of

MAX_PROMPT_LENGTH = 500
"""Characters; text encoders truncate prompts to 77 to 120 tokens without an error."""

MAX_TARGET_COUNT = 1000
"""Largest count of a target; critics evaluate at most 1024 candidates."""

_GLUED = re.compile(r"\d+[^\W\d_]{3,}")
"""A number and a noun in one word: "7apples"."""

_ARTICLES = frozenset(("a", "an"))
_SKIPPED = frozenset(
    "the these those some exactly just only precisely all there is are draw paint generate create make show give me "
    "render imagine please".split()
)
_VAGUE = frozenset(
    "few several many lots lot numerous dozens hundreds thousands millions billions plenty multiple countless "
    "handful".split()
)
_HEDGES = frozenset("about around approximately roughly nearly almost over under between from".split())
_ALWAYS_HEDGES = frozenset("approximately approx roughly nearly almost circa barely".split())
"""Words that always hedge the number after them; others, such as "over" and "from", are also prepositions."""
_HEDGE_PAIRS = frozenset(
    ("at least", "at most", "up to", "more than", "less than", "fewer than", "all but", "well over")
)
_NEGATIONS = frozenset("not never neither nor don't don’t without except excluding instead rather".split())
_BEHIND_NEGATIONS = _SKIPPED | frozenset("more less fewer than at least most up to of for".split())
"""Words allowed between a negation and its number: "not more than seven apples"."""
_MULTIPLIERS = frozenset(("twice", "thrice", "double", "triple", "half"))
_ARITHMETIC = frozenset("minus less fewer more point percent divided multiplied times x".split())
"""Arithmetic before "than", "by" or another number: "seven minus two apples", "two fewer than seven apples"."""
_POWERS = frozenset(("squared", "cubed", "percent"))
_PARTS = frozenset(
    "half halves third thirds quarter quarters fourth fourths fifth fifths sixth sixths seventh sevenths eighth "
    "eighths ninth ninths tenth tenths hundredth hundredths".split()
)
_INNER_GROUPS = frozenset("dozen dozens hundred hundreds thousand thousands million couple couples pair pairs".split())
"""Words that are numbers inside a noun phrase: "a whole dozen eggs"."""
_GRID = re.compile(r"\d+x\d*")
"""A product that is a count before a plural ("2x4 dogs") and a size elsewhere ("1920x1080")."""
_COLLECTIVES = frozenset(
    "group bunch row set collection pile stack line flock herd pack crowd total number circle".split()
)
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
OVERRIDE = 'give the count with targets_from("apple=7"), on the command line --count apple=7'
"""Advice for a prompt without a number."""


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


def parse(prompt: str, known_names: Sequence[str] | None = None) -> tuple[Target, ...]:
    """Read the targets of an English prompt, in the order of the prompt.

    An object that is named twice ("a red apple and a green apple", "a cat and two kittens" where kittens count as
    cats) is one target with the sum.

    Args:
        prompt: up to 500 characters.
        known_names: the classes of the critic; names of several words ("teddy bear") are found with it, and
            numbered scenery it does not know ("in two rows") is no target. None for an open vocabulary.

    Raises:
        PromptError: empty or too long, no count, a count of zero, or several readings.

    >>> parse("a photo of seven apples and two dogs")
    (Target(object_name='apple', target_count=7), Target(object_name='dog', target_count=2))
    """
    check_prompt(prompt)
    counts = _Reader(spelled_out(prompt), known_names).read()
    return tuple(Target(name, count) for name, count in counts.items())


def parses_to(prompt: str, targets: Sequence[Target], known_names: Sequence[str] | None = None) -> bool:
    """Return whether `parse` reads these targets; False for a prompt that it cannot read."""
    try:
        return parse(prompt, known_names) == tuple(targets)
    except PromptError:
        return False


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


def targets_from(text: str) -> tuple[Target, ...]:
    """Return the targets in a text "NAME=COUNT,...", for prompts that `parse` cannot read.

    Args:
        text: "apple=7" or "apple=7,wine glass=2"; names may be singular or plural.

    Raises:
        PromptError: another form, a count that is not a whole number from 1 to 1000, or an object named twice.
    """
    targets: dict[str, Target] = {}
    for assignment in text.split(","):
        name, equals, count = assignment.partition("=")
        if not (equals and name.strip() and re.fullmatch(r"[-+]?\d+", count.strip())):
            raise PromptError(
                f"cannot read {assignment.strip()!r} in {text!r}; write NAME=COUNT, for example apple=7,dog=2"
            )
        target = Target(singular(name), int(count))
        if target.object_name in targets:
            raise PromptError(f"{target.object_name!r} is given twice in {text!r}; give every object one count")
        targets[target.object_name] = target
    return tuple(targets.values())


class _Reader:
    """A parser that reads the words of a prompt once, left to right."""

    def __init__(self, prompt: str, known_names: Sequence[str] | None) -> None:
        self.prompt = prompt
        self.known = None if known_names is None else spellings(known_names)
        self.words = words_of(prompt)
        self.counts: dict[str, int] = {}
        self.scenery = False

    def read(self) -> dict[str, int]:
        uncounted = ""
        at, opening, separator = 0, True, ""
        while at < len(self.words):
            word = self.words[at]
            following = self.words[at + 1] if at + 1 < len(self.words) else ""
            # A tag after a comma ("seven apples, many details, no background") starts no target.
            tag = bool(separator not in ("", "and", "&") and self.counts)
            if word in SEPARATORS:
                at, opening, separator = at + 1, True, word
                continue
            if opening and not self.scenery and not tag:
                self._check_vague(at)
            if word == "or" and not self.scenery:
                self._fail("'or' leaves several readings; give every object one number")
            self._check_arithmetic(at)
            number = read_number(self.words, at)
            if word == "another" and number is None and not (following and read_number(self.words, at + 1)):
                at, opening = self._read_target(at, (1, at + 1, False), article=True), False
            elif number is not None:
                at, opening = self._read_target(at, number), False
            elif opening and word in _ARTICLES and following in _COLLECTIVES:
                at += 3 if self.words[at + 2 : at + 3] == ["of"] else 2
            elif opening and word in _ARTICLES:
                at, opening = self._read_target(at, (1, at + 1, False), article=True), False
            elif word == "without" and following in _ARTICLES:
                at, opening, self.scenery = at + 2, False, True  # "without a dog" asks for none
            elif opening and (word in _SKIPPED or word == "another"):
                at += 1
            else:
                if ODD_NUMBER.fullmatch(word) or (_GRID.fullmatch(word) and following and can_be_plural(following)):
                    self._fail(f"{word!r} is not one whole number above zero")
                if opening and not self.scenery and not tag and word not in PREPOSITIONS:
                    name, end = read_noun_phrase(self.words, at, 2, self.known)
                    plural = self.words[end - 1] if separator in ("and", "&") else word
                    uncounted = uncounted or (name if can_be_plural(plural) else "")
                self.scenery = self.scenery or word in PREPOSITIONS
                at, opening = at + 1, False
        glued = next((word for word in self.words if _GLUED.fullmatch(word)), None)
        if not self.counts and glued:
            self._fail(f"{glued!r} has no space after its number")
        if not self.counts:
            self._fail(f"it contains no number; write for example 'seven apples', or {OVERRIDE}")
        if uncounted:
            self._fail(f"{uncounted!r} has no number")
        return self.counts

    def _read_target(self, start: int, number: tuple[int, int, bool], article: bool = False) -> int:
        """Record the target whose number was read at `start`, and return the index after its noun phrase."""
        count, at, pairs = number
        following = [*self.words[at : at + 2], "", ""]
        written = " ".join(self.words[start:at])
        if following[0] == "or" or (following[0] in ("to", "-", "–", "—", "~", "/") and read_number(following, 1)):
            self._fail(f"{written!r} has several readings; give one number")
        sum_follows = following[1] in ("than", "by") or (following[1] and read_number(following, 1))
        fraction = following[0] in _PARTS and (following[0] == "half" or following[1] == "of")
        if (
            following[0] in GROUPS
            or following[0] in _POWERS
            or fraction
            or (following[0] in _ARITHMETIC and sum_follows)
        ):
            self._fail(f"'{written} {following[0]}' is arithmetic; give the number it comes to")
        if following[0] and not article and read_number(following, 0):
            self._fail(f"two numbers stand together: {written!r} and {following[0]!r}")
        name, end = read_noun_phrase(self.words, at, count, self.known)
        if not name:
            self._fail(f"{written!r} counts nothing: no noun follows it")
        if article and name in MEDIUMS:
            return end
        if article and name in _COLLECTIVES and self.words[end : end + 1] == ["of"]:  # "a large group of five cats"
            return end + 1
        self._check_inner_number(written, at, end, name)
        is_known = self.known is not None and singular(name) in self.known
        one_more = written == "another" and name in self.counts
        if self.scenery and not (is_known or one_more) and (article or self.known is not None):
            return end
        if count == 0:
            self._fail(f"no {name} is a count of zero; the smallest target is 1")
        if pairs and name in PLURAL_ONLY:
            count //= 2  # "three pairs of scissors" are three scissors
        self.counts[name] = self.counts.get(name, 0) + count
        return end

    def _check_inner_number(self, written: str, at: int, end: int, name: str) -> None:
        """Raise for a noun phrase that contains a number: "a whole dozen eggs", "a good few apples"."""
        phrase = self.words[at:end]
        for word in phrase:
            if word in _VAGUE:
                self._fail(f"{word!r} is not a number; give one")
            if word in _INNER_GROUPS or ODD_NUMBER.fullmatch(word) or word.endswith("-odd"):
                self._fail(f"'{written} {' '.join(phrase)}' is ambiguous; give one number")
        if name == "gross" and self.words[end : end + 1] == ["of"]:
            self._fail(f"'{written} gross' is arithmetic; give the number it comes to")
        if written.split()[-1] in SMALL_GROUPS and not can_be_plural(phrase[-1]):
            self._fail(f"{written!r} counts nothing: no plural follows it")

    def _check_vague(self, at: int) -> None:
        first, second, third = [*self.words[at : at + 3], "", ""][:3]
        word = second if first in _ARTICLES else first
        if word in _VAGUE or (first == "some" and can_be_plural(second)):
            self._fail(f"{word!r} is not a number; give one")
        if f"{first} {second}" in _HEDGE_PAIRS or (first in _HEDGES and second and read_number(self.words, at + 1)):
            self._fail(f"'{' '.join((first, second, third)).strip()}' has several readings; give one number")
        if first in ("minus", "negative") and second and read_number([second], 0):
            self._fail(f"'{first} {second}' is below zero; the smallest target is 1")
        if first == "no":
            self._fail(f"'no {second}' is a count of zero; the smallest target is 1")

    def _check_arithmetic(self, at: int) -> None:
        """Raise for numbers that are negated, multiplied or approximate: "not seven apples", "half of seven apples"."""
        word, behind = self.words[at], at + 1
        if word in _NEGATIONS or (word in _MULTIPLIERS and not read_number(self.words, at)):
            skipped = _BEHIND_NEGATIONS if word in _NEGATIONS else ("of", "the")
            while behind < len(self.words) and self.words[behind] in skipped:
                behind += 1
        elif word not in _ALWAYS_HEDGES:
            return
        if behind < len(self.words) and read_number(self.words, behind):
            self._fail(f"'{' '.join(self.words[at : behind + 1])}' is ambiguous; give one number")

    def _fail(self, reason: str) -> None:
        raise unreadable(self.prompt, reason)
