"""Find the end of the noun phrase after a number, and the object that it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from countgen.critics.vocabulary import can_be_plural, singular
from countgen.prompts.number_words import read_number, word_at

SEPARATORS = frozenset(("and", "&", "+", "plus", "vs", "versus", ",", ";", ":", ".", "!", "?", "(", ")", "–", "—"))
PREPOSITIONS = frozenset(
    "above across against along alongside amid among around as at behind below beneath beside besides between beyond "
    "by during for from in inside into near of off on onto outside over through to toward towards under underneath "
    "upon via with within without next that which who whose where while but is was were are each together has have had "
    "does did will would could should".split()
)
MEDIUMS = frozenset(
    "photo photograph picture image painting drawing illustration sketch render rendering shot snapshot cartoon "
    "watercolor watercolour poster portrait life scene view close-up closeup artwork masterpiece style "
    "background".split()
)
DETERMINERS = frozenset("a an another the some no this these those both every my your his her its our their".split())

_ADJECTIVES = frozenset(
    "black white red green blue yellow orange purple pink brown grey gray gold golden silver beige cyan magenta "
    "striped spotted big small little tiny large huge giant tall long short old young new cute fluffy furry fuzzy "
    "shiny beautiful pretty happy sad angry wild lone single dark bright colorful colourful different wooden metal "
    "very vintage".split()
)
# Nouns that look like participles; every other "-ing" or "-ed" after a noun describes it.
_NOT_PARTICIPLES = frozenset(
    "bed biped building ceiling drawing dressing duckling dumpling earring gosling herring king moped painting pudding "
    "quadruped ring sapling seedling shed sibling sled sling spring starling steed string swing thing wing".split()
)
_VERBS = frozenset(
    "ate bought brought built came caught drank drinks drove eaten eats fed fell flew fought gave grew held hidden "
    "holds hung knelt laid lay leapt led lies lit looks made met ran ridden rode said sang sat seen shone shown sits "
    "slept sold stands stole stood swam swung taken threw thrown took torn wears went woke won wore worn".split()
)
_MEASURES = frozenset(
    "second minute hour day week month year century decade time inch foot yard mile metre meter centimetre centimeter "
    "degree dollar euro buck megapixel row column line group side colour color type kind sort style variety set way "
    "angle one".split()
)
_LAID = frozenset("desk stage table tray".split())
"""Nouns after which "set" is a verb: "a table set for four"; but "a chess set"."""
_PARTICLES = frozenset("ahead apart away down out past up".split())


class NounPhrase(NamedTuple):
    """A noun phrase in a list of words.

    Attributes:
        name: the object in the singular, "" without a noun.
        words: without punctuation.
        end: index after the phrase.
        is_known: whether a critic knows the object.
    """

    name: str
    words: tuple[str, ...]
    end: int
    is_known: bool = False

    @property
    def is_plural(self) -> bool:
        """Whether the noun may stand after a number above one."""
        return bool(self.name) and can_be_plural(self.words[-1])

    @property
    def is_measure(self) -> bool:
        """Whether the noun is one of a measure or an arrangement ("three years", "in two long rows"), not an object."""
        return self.name in _MEASURES and not self.is_known and (len(self.words) == 1 or self.words[-2] in _ADJECTIVES)


def read_noun_phrase(words: Sequence[str], start: int, count: int, known: Mapping[str, str] | None) -> NounPhrase:
    """Return the noun phrase that begins at words[start].

    Args:
        words: lower-case words and punctuation.
        start: index of the first word after the number.
        count: the number; above one, the phrase ends at its plural.
        known: singular spelling to name of the objects a critic knows; None for an open vocabulary.
    """
    end = start
    while end < len(words) and not _ends_before(words, start, end, count):
        end += 1
    phrase = tuple(word for word in words[start:end] if word not in SEPARATORS and any(map(str.isalnum, word)))
    # Neither a sign ("seven -"), a bare article nor a size ("seven 4k") is an object.
    if not phrase or not phrase[-1][0].isalpha() or phrase[-1] in DETERMINERS:
        return NounPhrase("", phrase, end)
    for first in range(len(phrase)):
        spelling = singular(" ".join(phrase[first:]))
        if known is not None and spelling in known:
            return NounPhrase(known[spelling], phrase, end, is_known=True)
    # "One black, one sleeping" describe an object that was named before; only "orange" is also an object.
    described = phrase[-1] in _ADJECTIVES - {"orange"}
    described = described or (_is_participle(phrase[-1]) and (count > 1 or word_at(words, start - 1) == "one"))
    return NounPhrase("" if described else singular(phrase[-1]), phrase, end)


def _ends_before(words: Sequence[str], start: int, at: int, count: int) -> bool:
    """Return whether the phrase that began at words[start] ends before words[at]."""
    word = words[at]
    before = words[at - 1] if at > start else ""
    following = word_at(words, at + 1)
    if word in ("and", "&", ",") and before:
        return not _joins_adjectives(words, at, before, count)
    if word in SEPARATORS or word in PREPOSITIONS:
        return True
    if number := read_number(words, at):
        noun = word_at(words, number[1])
        # "A 3 bedroom house" and "a Route 66 sign" have the number of something else.
        return count > 1 or not noun.isalpha() or noun in PREPOSITIONS | DETERMINERS | {"and"} or can_be_plural(noun)
    if not before or before in SEPARATORS:
        return False
    if word in DETERMINERS or (word in ("left", "right") and following == "of"):
        return True  # "a cat chasing a dog": the dog is another phrase's
    if count > 1 and can_be_plural(before):
        return not can_be_plural(word) or following in DETERMINERS
    return before not in _ADJECTIVES and _is_verb(words, at, count)


def _is_verb(words: Sequence[str], at: int, count: int) -> bool:
    """Return whether a word after a noun tells what the object does: "a cat chasing birds", "a truck rumbled down"."""
    word, following = words[at], word_at(words, at + 1)
    has_object = following in DETERMINERS or bool(read_number(words, at + 1))
    is_last = has_object or not following or following in SEPARATORS | PREPOSITIONS | _PARTICLES
    acts = word in _VERBS and (count == 1 or not can_be_plural(word))
    acts = acts or (word == "set" and word_at(words, at - 1) in _LAID and following in PREPOSITIONS)
    if acts or word in _PARTICLES or (word.endswith("ly") and following.endswith(("ing", "ed"))):
        return True
    if _is_participle(word) or (has_object and word.endswith("ing")):
        # "A man eating pizza" has one man, but "a cheese filled sandwich" one sandwich.
        return is_last or (count == 1 and ("ing" in (word[-3:], following[-3:]) or can_be_plural(following)))
    # "A dog jumps over", "a girl kicks balls"; but "a sports car".
    is_last = is_last or can_be_plural(following)
    return count == 1 and is_last and word.endswith("s") and singular(word) != word


def _is_participle(word: str) -> bool:
    return word.endswith(("ing", "ed")) and len(word) > 4 and word not in _NOT_PARTICIPLES


def _joins_adjectives(words: Sequence[str], at: int, before: str, count: int) -> bool:
    """Return whether "and" stands between two adjectives ("two black and white cats"), not between two objects."""
    following = word_at(words, at + 1)
    if not following or following in DETERMINERS or following in PREPOSITIONS or following in SEPARATORS:
        return False
    if read_number(words, at + 1):
        return False
    return before in _ADJECTIVES or (count > 1 and following in _ADJECTIVES and not can_be_plural(before))
