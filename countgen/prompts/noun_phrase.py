"""Find the end of the noun phrase after a number, and the object that it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from countgen.critics.vocabulary import can_be_plural, singular
from countgen.prompts.number_words import read_number

SEPARATORS = frozenset(("and", "&", "+", "plus", "vs", "versus", ",", ";", ":", ".", "!", "?", "(", ")", "–", "—"))
PREPOSITIONS = frozenset(
    "above across against along alongside amid among around as at behind below beneath beside besides between beyond "
    "by during for from in inside into near of off on onto outside over through to toward towards under underneath "
    "upon via with within without next that which who whose where while are is was were each together has have".split()
)
MEDIUMS = frozenset(
    "photo photograph picture image painting drawing illustration sketch render rendering shot snapshot cartoon "
    "watercolor watercolour poster scene view close-up closeup artwork masterpiece style background".split()
)

_COLOURS = frozenset(
    "black white red green blue yellow orange purple pink brown grey gray gold silver beige cyan magenta striped "
    "spotted big small tiny large huge old young cute fluffy shiny".split()
)
_DETERMINERS = frozenset(("a", "an", "another", "the", "some", "no"))
# Nouns that look like participles; every other "-ing" or "-ed" before a preposition describes the noun before it.
_NOT_PARTICIPLES = frozenset(
    "bed biped building ceiling drawing dressing duckling dumpling earring gosling herring king moped painting pudding "
    "quadruped ring sapling seedling shed sibling sled sling spring starling steed string swing thing wing".split()
)


def read_noun_phrase(words: Sequence[str], start: int, count: int, known: Mapping[str, str] | None) -> tuple[str, int]:
    """Return the object that the noun phrase beginning at words[start] names, and the index after the phrase.

    Args:
        words: lower-case words and punctuation.
        start: index of the first word after the number.
        count: the number; above one, the phrase ends at its plural.
        known: singular spelling to name of the objects a critic knows; None for an open vocabulary.

    Returns:
        (name, end); name is "" if there is no noun.
    """
    end = start
    while end < len(words) and not _ends_before(words, start, end, count):
        end += 1
    phrase = [word for word in words[start:end] if word not in SEPARATORS and any(map(str.isalnum, word))]
    # Neither a sign ("seven -"), a bare article nor a size ("seven 4k") is an object.
    if not phrase or not phrase[-1][0].isalpha() or phrase[-1] in _DETERMINERS:
        return "", end
    for first in range(len(phrase)):
        spelling = singular(" ".join(phrase[first:]))
        if known is not None and spelling in known:
            return known[spelling], end
    return singular(phrase[-1]), end


def _ends_before(words: Sequence[str], start: int, at: int, count: int) -> bool:
    """Return whether the phrase that began at words[start] ends before words[at]."""
    word = words[at]
    before = words[at - 1] if at > start else ""
    following = words[at + 1] if at + 1 < len(words) else ""
    if word in ("and", "&", ",") and before:
        return not _joins_adjectives(words, at, before, count)
    if word in SEPARATORS or word in PREPOSITIONS or read_number(words, at) is not None:
        return True
    if not before or before in SEPARATORS:
        return False
    if word in _DETERMINERS:  # "a cat chasing a dog": the dog is another phrase's
        return True
    if count > 1 and can_be_plural(before):
        return not can_be_plural(word)
    loose = not following or following in SEPARATORS or following in PREPOSITIONS or following in _DETERMINERS
    return word.endswith(("ing", "ed")) and len(word) > 4 and loose and word not in _NOT_PARTICIPLES


def _joins_adjectives(words: Sequence[str], at: int, before: str, count: int) -> bool:
    """Return whether "and" stands between two adjectives ("two black and white cats"), not between two objects."""
    following = words[at + 1] if at + 1 < len(words) else ""
    if not following or following in _DETERMINERS or following in PREPOSITIONS or following in SEPARATORS:
        return False
    if read_number(words, at + 1) is not None:
        return False
    return before in _COLOURS or (count > 1 and following in _COLOURS and not can_be_plural(before))
