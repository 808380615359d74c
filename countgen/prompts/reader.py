"""Read the counts of a prompt word by word.

The rules, in the order they are applied:

- A number in words, in digits or as the placeholder of a count token ("<count-7>") starts a target; the noun phrase
  after it names the object. "a" and "an" count one at the start, after "and" or a comma, and after a position
  ("left of", "above", "next to", "behind", "under"); "another" counts one more anywhere.
- The noun phrase ends at its plural, at a preposition, at a verb or at "and". What follows ("on a table", "wearing a
  red hat") is scenery, in which only numbers start a target ("a cat chasing two birds").
- The object is the longest ending of the phrase that the critic knows, under its own name or a synonym of it,
  otherwise its last word.
- What contains counted objects ("a bowl of seven strawberries") is not counted, nor are measures ("three years") and
  arrangements ("in two rows"). Digits without a plural after them may be a name ("Route 66", "unreal engine 5").
- A prompt without a reading or with more than one ("a few apples", "2 or 3 apples", "not seven apples", "twice two
  apples", "2² apples", "half of seven apples") is an error that shows how to write it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from countgen.critics.vocabulary import PLURAL_ONLY, can_be_plural, plural, spellings
from countgen.prompts.noun_phrase import DETERMINERS, MEDIUMS, PREPOSITIONS, SEPARATORS, NounPhrase, read_noun_phrase
from countgen.prompts.number_words import GROUPS, SMALL_GROUPS, read_number, value_of, word_at
from countgen.prompts.prompt import Place, Prompt
from countgen.prompts.words import ODD_NUMBER, OVERRIDE, unreadable

_ARTICLES = frozenset(("a", "an"))
_SKIPPED = (DETERMINERS - _ARTICLES - {"another", "no", "every"}) | frozenset(
    "exactly just only precisely all there is are draw paint generate create make show give me render imagine "
    "please well".split()
)
_VAGUE = frozenset(
    "few several many lots lot numerous dozens hundreds thousands millions billions plenty multiple countless "
    "handful".split()
)
_HEDGES = frozenset("about around over under between from".split())
"""Prepositions that hedge a number at the beginning of a phrase."""
_HEDGE_PAIRS = frozenset(("at least", "at most", "up to", "more than", "less than", "fewer than", "all but"))
_MODIFIERS = frozenset(
    "not never neither nor don't don’t without except excluding instead rather twice thrice double triple "
    "approximately approx roughly nearly almost circa barely minus negative".split()
)
"""Words that negate, multiply or hedge the number after them."""
_BEHIND_MODIFIERS = _SKIPPED | frozenset("more less fewer than at least most up to of for".split())
"""Words allowed between a modifier and its number: "not more than seven apples"."""
_ARITHMETIC = frozenset("minus less fewer more point percent divided multiplied times x".split())
"""Arithmetic before "than", "by" or another number: "seven minus two apples", "two fewer than seven apples"."""
_POWERS = frozenset(("squared", "cubed", "percent"))
_PARTS = frozenset("half third quarter fourth fifth sixth seventh eighth ninth tenth hundredth".split())
_PLURAL_PARTS = frozenset(f"{part}s" for part in _PARTS) | {"halves"}
_DIVIDED = frozenset("cut broken broke breaks split divided sliced chopped torn smashed".split())
_GRID = re.compile(r"\d+x\d*")
"""A product that is a count before a plural ("2x4 dogs") and a size elsewhere ("1920x1080")."""
_COLLECTIVES = frozenset(
    "group bunch row set collection pile stack line flock herd pack crowd total number circle bouquet gross".split()
)
_POSITIONS = frozenset("above behind below beneath beside near under underneath".split())
_POSITION_PAIRS = frozenset(("left of", "right of", "front of", "top of", "next to"))
"""Positions of two objects beside each other: "a dog left of a chair" is a chair too."""


class Reader:
    """A parser that reads the words of a prompt once, left to right."""

    def __init__(self, prompt: Prompt, known_names: Sequence[str] | None) -> None:
        self.prompt = prompt
        self.known = None if known_names is None else spellings(known_names)
        self.words, self.spans = prompt.words
        self.counts, self.places = Counter[str](), list[Place]()
        self.opening, self.separator = True, ""
        self.scenery = False

    def read(self) -> tuple[Counter[str], tuple[Place, ...]]:
        """Return the count of each object, and where the prompt counts it.

        Raises:
            PromptError: the prompt has no reading, or several.
        """
        for at in range(len(self.words)):
            self._check_parts(at)
        uncounted, at = "", 0
        while at < len(self.words):
            word, before = self.words[at], word_at(self.words, at - 1)
            # A tag after a comma ("seven apples, many details, no background") starts no target.
            stated = before in ("is", "are", "only")
            tag = bool(self.separator not in ("", "and", "&") and self.counts and not stated)
            if word in SEPARATORS or (before in MEDIUMS and word in ("of", "showing", "depicting", "with")):
                at, self.opening, self.separator = at + 1, True, word
                continue
            if self.opening and not tag and (stated or not self.scenery):
                self._check_vague(at)
            if word == "or" and not self.scenery:
                self._fail("'or' leaves several readings; give every object one number")
            self._check_modified(at)
            if word == "another" and read_number(self.words, at + 1):
                at += 1
            elif number := read_number(self.words, at):
                at, self.opening = self._read_number(at, *number), False
            elif word == "another" or (word in _ARTICLES and (self.opening or self._is_position(at))):
                at, self.opening = self._read_article(at), False
            elif word == "without" and word_at(self.words, at + 1) in _ARTICLES:
                at, self.opening, self.scenery = at + 2, False, True  # "without a dog" asks for none
            elif self.opening and word in _SKIPPED:
                at += 1
            else:
                if ODD_NUMBER.fullmatch(word) or (_GRID.fullmatch(word) and can_be_plural(word_at(self.words, at + 1))):
                    self._fail(f"{word!r} is not one whole number above zero")
                if self.opening and not self.scenery and not tag and word not in PREPOSITIONS:
                    phrase = read_noun_phrase(self.words, at, 2, self.known)
                    noun = self.words[phrase.end - 1] if self.separator in ("and", "&") else word
                    uncounted = uncounted or (phrase.name if can_be_plural(noun) else "")
                at, self.opening = at + 1, False
                is_scenery = self.scenery or word in PREPOSITIONS
                self.scenery = is_scenery and not (self.known is None and self._is_position(at))
        if not self.counts:
            self._fail(f"it contains no number; write for example 'seven apples', or {OVERRIDE}")
        if uncounted:
            self._fail(f"{uncounted!r} has no number")
        return self.counts, tuple(self.places)

    def _is_position(self, at: int) -> bool:
        """Return whether the words before words[at] place the object after them beside another one."""
        before = word_at(self.words, at - 1)
        return before in _POSITIONS or f"{word_at(self.words, at - 2)} {before}" in _POSITION_PAIRS

    def _read_article(self, start: int) -> int:
        """Count the object after "a", "an" or "another", and return the index after its noun phrase."""
        written, phrase = self.words[start], read_noun_phrase(self.words, start + 1, 1, self.known)
        name, end = phrase.name, phrase.end
        if not name:
            self._fail(f"{written!r} counts nothing: no noun follows it")
        if word_at(self.words, end) == "of" and (name in _COLLECTIVES or read_number(self.words, end + 1)):
            return end + 1  # "a large group of five cats", "a bowl of seven strawberries"
        self._check_inner_number(written, phrase)
        one_more = written == "another" and name in self.counts
        is_medium = name in MEDIUMS and not self._is_position(start)
        if not is_medium and (not self.scenery or one_more or phrase.is_known):
            self._count(phrase, 1, start, start + 1, is_article=True)
        return end

    def _read_number(self, start: int, count: int, at: int, pairs: bool) -> int:
        """Count the object after the number that `read_number` read at `start`, and return the index after it."""
        following, number_follows = word_at(self.words, at), read_number(self.words, at + 1)
        written = " ".join(self.words[start:at])
        if following == "or" or (following in ("to", "-", "–", "—", "~", "/") and number_follows):
            self._fail(f"{written!r} has several readings; give one number")
        sum_follows = number_follows or word_at(self.words, at + 1) in ("than", "by")
        if following in GROUPS or following in _POWERS or (following in _ARITHMETIC and sum_follows):
            self._fail(f"'{written} {following}' is arithmetic; give the number it comes to")
        phrase = read_noun_phrase(self.words, at, count, self.known)
        if self._is_label(start, count, phrase):
            return at
        if read_number(self.words, at):
            self._fail(f"two numbers stand together: {written!r} and {following!r}")
        if not phrase.name:
            # "Two cats (2)", "two cats, one black and one white", "one of the cats"
            listed = self.opening and (not self.counts or self.separator in ("", "and", "&", "+", "plus"))
            if listed and not (written == "one" and (self.counts or following == "of")):
                self._fail(f"{written!r} counts nothing: no noun follows it")
            return at
        self._check_inner_number(written, phrase)
        if phrase.is_measure:
            return phrase.end
        if count == 0:
            self._fail(f"no {phrase.name} is a count of zero; the smallest target is 1")
        needs_plural = (len(phrase.words) > 1 and not phrase.is_known) or written.split()[-1] in SMALL_GROUPS
        if count > 1 and needs_plural and not phrase.is_plural:
            self._fail(f"no plural follows {written!r}; write for example '{written} {plural(phrase.name)}'")
        # "three pairs of scissors" are three scissors
        self._count(phrase, count // 2 if pairs and phrase.name in PLURAL_ONLY else count, start, at)
        return phrase.end

    def _count(self, phrase: NounPhrase, count: int, start: int, end: int, *, is_article: bool = False) -> None:
        """Add the objects of a phrase after the number or article that is words[start:end]."""
        noun = max(at for at in range(end, phrase.end) if self.words[at] == phrase.words[-1])
        self.counts[phrase.name] += count
        number = self.spans[start][0], self.spans[end - 1][1]
        self.places.append(Place(phrase.name, number, self.spans[noun], is_article))

    def _is_label(self, start: int, count: int, phrase: NounPhrase) -> bool:
        """Return whether digits are a name or a year: "Route 66", "unreal engine 5 render", "in 1966"."""
        digits, before = self.words[start], word_at(self.words, start - 1)
        if not digits.isdecimal() or phrase.is_plural:
            return False
        is_year = len(digits) == 4 and 1500 <= count <= 2100
        is_object = count == 1 and before.endswith(("ing", "ed", "s")) and phrase.name
        return is_year or not (self.opening or is_object or before in PREPOSITIONS or before in _SKIPPED)

    def _check_inner_number(self, written: str, phrase: NounPhrase) -> None:
        """Raise for a noun phrase that contains a number: "a whole dozen eggs", "a good few apples"."""
        for word in phrase.words:
            if word in _VAGUE:
                self._fail(f"{word!r} is not a number; give one")
            if word in GROUPS or ODD_NUMBER.fullmatch(word) or word.endswith("-odd"):
                self._fail(f"'{written} {' '.join(phrase.words)}' is ambiguous; give one number")

    def _check_parts(self, at: int) -> None:
        """Raise for fractions and parts of objects: "two thirds", "half of an apple", "cut into four pieces"."""
        word, before, following = self.words[at], word_at(self.words, at - 1), word_at(self.words, at + 1)
        divided_in = following == "in" and read_number(self.words, at + 2)
        fraction = word in _PARTS and (before == "one" or (following == "of" and before in _ARTICLES))
        if word in ("half", "quarter") and not read_number(self.words, at):
            fraction = fraction or following == "of" or before in ("in", "a") or value_of(before) is not None
        if fraction or word in _PLURAL_PARTS or (word in _DIVIDED and (following == "into" or divided_in)):
            self._fail(f"{word!r} makes parts of an object, which are not counted; write whole numbers, or {OVERRIDE}")

    def _check_vague(self, at: int) -> None:
        first, second, third = (word_at(self.words, at + behind) for behind in range(3))
        word = second if first in _ARTICLES else first
        if word in _VAGUE or (first == "some" and can_be_plural(second)):
            self._fail(f"{word!r} is not a number; give one")
        if f"{first} {second}" in _HEDGE_PAIRS or (first in _HEDGES and read_number(self.words, at + 1)):
            self._fail(f"'{' '.join((first, second, third)).strip()}' has several readings; give one number")
        if first == "no":
            self._fail(f"'no {second}' is a count of zero; the smallest target is 1")

    def _check_modified(self, at: int) -> None:
        """Raise for numbers that are negated, multiplied or approximate: "not seven apples", "twice seven apples"."""
        behind = at + 1
        while word_at(self.words, behind) in _BEHIND_MODIFIERS:
            behind += 1
        if self.words[at] in _MODIFIERS and read_number(self.words, behind):
            self._fail(f"'{' '.join(self.words[at : behind + 1])}' is ambiguous; give one number")

    def _fail(self, reason: str) -> None:
        raise unreadable(self.prompt.text, reason)
