"""A prompt says another number where that number stands, and nowhere else."""

import pytest

from countgen.errors import PromptError
from countgen.prompts import Target
from countgen.prompts.recount import recounted

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
]


def test_the_number_of_each_object_is_replaced(subtests: pytest.Subtests) -> None:
    for prompt, counts, expected in RECOUNTED:
        with subtests.test(prompt=prompt, counts=counts):
            targets = tuple(Target(name, count) for name, count in counts.items())
            assert recounted(prompt, targets, KNOWN) == expected
    for prompt, name in (("a red apple and a green apple", "apple"), ("two dogs", "cat"), ("many", "cat")):
        with subtests.test(prompt=prompt), pytest.raises(PromptError, match="cannot"):
            recounted(prompt, (Target(name, 8),), KNOWN)
