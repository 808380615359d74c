"""A prompt says another number where that number stands, and nowhere else."""

import pytest

from countgen.errors import PromptError
from countgen.prompts import Target, read
from countgen.prompts.number_words import number_word
from countgen.prompts.recount import recounted
from tests.countgen.prompts.test_parser import READINGS

pytestmark = pytest.mark.core
KNOWN = ("apple", "cat", "dog")


RECOUNTED = [
    ("a photo of seven apples and 2 dogs", {"apple": 5, "dog": 1}, "a photo of five apples and one dog"),
    ("a cat and two dogs", {"cat": 4, "dog": 2}, "four cats and two dogs"),
    ("seven apples and seven dogs", {"apple": 7, "dog": 3}, "seven apples and three dogs"),
    ("seven apples and seven dogs", {"apple": 3, "dog": 7}, "three apples and seven dogs"),
    ("A dozen red apples in 8 rows", {"apple": 8}, "eight red apples in 8 rows"),
    ("<count-7> apples in two rows", {"apple": 2}, "two apples in two rows"),
    ("seven apples", {"apple": 7}, "seven apples"),
    ("Two Kittens on a bed", {"cat": 1}, "one kitten on a bed"),
    ("in a cafe\u0301, 16:9: seven ﬁne apples", {"apple": 1}, "in a cafe\u0301, 16:9: one ﬁne apple"),
]


def test_the_number_of_each_object_is_replaced(subtests: pytest.Subtests) -> None:
    for prompt, counts, expected in RECOUNTED:
        with subtests.test(prompt=prompt, counts=counts):
            targets = tuple(Target(name, count) for name, count in counts.items())
            assert recounted(prompt, targets, KNOWN).given == expected
    for prompt, name in (("a red apple and a green apple", "apple"), ("two dogs", "cat"), ("many", "cat")):
        with subtests.test(prompt=prompt), pytest.raises(PromptError, match="cannot"):
            recounted(prompt, (Target(name, 8),), KNOWN)


def test_the_place_of_a_count_is_where_its_number_stands(subtests: pytest.Subtests) -> None:
    """Another number there changes the count of this object alone."""
    for text in READINGS:
        prompt = read(text)
        names = [place.object_name for place in prompt.places]
        counts = {target.object_name: target.target_count for target in prompt.targets}
        for name, number, noun, is_article in prompt.places:
            if names.count(name) > 1 or is_article or counts[name] in (1, 1000):
                continue
            with subtests.test(text=text, name=name):
                changed = read(prompt.replaced({number: number_word(counts[name] + 1)}))
                wanted = counts | {name: counts[name] + 1}
                assert {target.object_name: target.target_count for target in changed.targets} == wanted
                assert number in prompt.numbers
                assert noun[0] >= number[1]
