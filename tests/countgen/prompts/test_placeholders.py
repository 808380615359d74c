"""Where a token stands in a prompt."""

import pytest

from countgen.errors import PromptError
from countgen.prompts import Prompt, Target, parse
from countgen.prompts.number_words import number_word, read_number

pytestmark = pytest.mark.core
PLACES = [
    ("a photo of seven apples", 7, "a photo of <count-7> apples"),
    ("Seven apples, on a table", 7, "<count-7> apples, on a table"),
    ("7 apples", 7, "<count-7> apples"),
    ("a dozen eggs", 12, "<count-12> eggs"),
    ("twenty-one cats", 21, "<count-21> cats"),
    ("twenty one cats", 21, "<count-21> cats"),
    ("1,000 birds", 1000, "<count-1000> birds"),
    ("seven apples and two dogs", 2, "seven apples and <count-2> dogs"),
    ("seven apples and seven dogs", 7, "<count-7> apples and <count-7> dogs"),
    ("<count-7> apples and 17 dogs", 7, "<count-7> apples and 17 dogs"),
    ("7 apples at 7:30, 7k, #7", 7, "<count-7> apples at 7:30, 7k, #7"),
    ("<count-3> apples and <count-7> dogs", 7, "three apples and <count-7> dogs"),
]


def test_the_placeholder_takes_the_numbers_place(subtests):
    for prompt, count, written in PLACES:
        with subtests.test(prompt=prompt, count=count):
            assert Prompt(prompt).with_placeholder(count) == written
    for prompt in ("a photo of three apples", "apples on a table", "seventeen apples", "<count-3> cats"):
        with subtests.test(prompt=prompt), pytest.raises(PromptError, match="write 'seven'"):
            Prompt(prompt).with_placeholder(7)


def test_placeholders_are_spelled_out_and_read_as_numbers():
    prompt = "a photo of <count-7> apples and <count-200> bees"
    assert Prompt(prompt).text == "a photo of seven apples and 200 bees"
    assert parse(prompt) == (Target("apple", 7), Target("bee", 200))


def test_a_number_word_is_read_as_its_number():
    values = [*range(1, 120), 1000]
    assert [read_number([number_word(value)], 0) for value in values] == [(value, 1, False) for value in values]
