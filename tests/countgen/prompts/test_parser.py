import pytest

from countgen.critics.vocabulary import english
from countgen.errors import PromptError
from countgen.prompts import MAX_PROMPT_LENGTH, Target, parse, targets_from

KNOWN = (
    "apple,ball,bear,bird,bowl,bus,car,cat,chair,cup,dog,egg,hot dog,mouse,orange,person,potted plant,rose,scissors,"
    "sheep,skis,sports ball,table,teddy bear,tree,wine glass"
).split(",")

pytestmark = pytest.mark.core

# Read alike with an open vocabulary and with the classes above.
READINGS = {
    # The noun phrase ends at a verb, a participle with an object or a particle.
    "a dog wearing sunglasses": "dog=1",
    "one truck rumbled down the highway": "truck=1",
    "a bus drove past three trees": "bus=1,tree=3",
    "a dog jumps over two cars": "dog=1,car=2",
    "a person rides a bus": "person=1",
    "a person painting two chairs": "person=1,chair=2",
    "one sleeping cat": "cat=1",
    "a table set for four people": "table=1,person=4",
    "a table set for six": "table=1",
    "two chess sets": "set=2",
    "a chess set with four birds": "set=1,bird=4",
    "a red flying bird": "bird=1",
    "two red-and-white striped dogs": "dog=2",
    "two cats, one black and one white": "cat=2",
    # Positions compare two objects; other prepositions lead to scenery.
    "a dog left of a chair": "dog=1,chair=1",
    "two dogs above a bus, and a cat": "dog=2,bus=1,cat=1",
    # What contains the counted objects is not counted.
    "a bowl of seven apples": "apple=7",
    "a bouquet of 24 roses": "rose=24",
    "a painting of a cat": "cat=1",
    # Numbers that count nothing.
    "two cats at 7. The cats sleep": "cat=2",
    "two cats, f/1.8, 16:9, 10:30, 8k, 4 k, 24 mm": "cat=2",
    "two cats, unreal engine 5 render, ISO 100, --ar 16:9 --v 5": "cat=2",
    "two cars on Route 66 in 1966": "car=2",
    "a bus and a car, stock photo #4983725": "bus=1,car=1",
    "a 25 year old person with two dogs": "person=1,dog=2",
    "seven apples in two rows, three meters wide": "apple=7",
    "a 3 seat chair": "chair=1",
    "a photo of seven apples": "apple=7",
    "A Photo Of Seven Apples.": "apple=7",
    "７ apples": "apple=7",
    "half a dozen eggs": "egg=6",
    "two dozen roses": "rose=24",
    "a couple of cats": "cat=2",
    "a pair of birds": "bird=2",
    "a pair of scissors": "scissors=1",
    "two pairs of scissors": "scissors=2",
    "one hundred and five birds": "bird=105",
    "1,000 birds": "bird=1000",
    "three apples, two dogs, and a cat": "apple=3,dog=2,cat=1",
    "a red apple and a green apple": "apple=2",
    "two black and white cats": "cat=2",
    "a black and white cat": "cat=1",
    "seven apples on a wooden table, a window behind": "apple=7",
    "three sheep": "sheep=3",
    "ten people walking down a street": "person=10",
    "an oil painting of 4 buses": "bus=4",
    "3d render of 4 cars": "car=4",
    "seven apples, many details, no background": "apple=7",
    "a photo of some 7 apples": "apple=7",
    "an apple and another apple": "apple=2",
    "a cat chasing another cat": "cat=2",
    "three cats and another two dogs": "cat=3,dog=2",
    "seven apples without a dog": "apple=7",
    "٣ apples": "apple=3",
    "a half dozen eggs": "egg=6",
    "a couple apples": "apple=2",
    "a trio of cats": "cat=3",
    "a large group of five cats": "cat=5",
    "twenty- one birds": "bird=21",
    "twenty\u2011one birds": "bird=21",
    "an apple—red and shiny—on a table": "apple=1",
    "H₂O and seven apples": "apple=7",
    "seven apples, 1920x1080": "apple=7",
    "two more apples": "apple=2",
}
# Several words, or a number in the scenery: the classes decide.
READINGS_WITH_CLASSES = {
    "a cat with three kittens": ("cat=1,kitten=3", "cat=4"),
    "6 wine glasses": ("glass=6", "wine glass=6"),
    "four skis": ("ski=4", "skis=4"),
    "a bouquet of 24 tulips": ("tulip=24", "tulip=24"),
    "a dog left of a dragon": ("dog=1,dragon=1", "dog=1"),
}
ERRORS = {
    # Parts of objects, and sentences after the first.
    "one apple and half of another apple": "'half' makes parts of an object.*--count apple=7",
    "an apple cut in half": "'half' makes parts",
    "four forks, but one fork is broken into two pieces": "'broken' makes parts",
    "a cake on a table. There are many candles on the cake": "'many' is not a number",
    "a vase. There are no flowers in the vase": "count of zero",
    "nine round vector": "no plural follows 'nine'; write for example 'nine vectors'",
    "apples on a table": "contains no number.*--count apple=7",
    "the third apple": "contains no number",
    "🍎🍎": "contains no number",
    "2 or 3 apples": "several readings",
    "between 3 and 5 cats": "'between 3 and' has several readings",
    "3 - 5 cats": "several readings",
    "about seven apples": "'about seven apples' has several readings",
    "at least 3 cats": "several readings",
    "(seven apples:1.3)": "1.3\\)' is a prompt weight, which is not supported",
    "7 apples, <lora:style:0.8>": "'<lora:style:0.8>' is a prompt weight",
    "7apples": "contains no number",
    "3-5 cats": "'3-5' is not one whole number",
    "3.5 apples": "'3.5' is not one whole number",
    "½ apple": "not one whole number",
    "a few apples": "'few' is not a number",
    "dozens of eggs": "is not a number",
    "-3 apples": "'-3' is not one whole number above zero",
    "minus three apples": "'minus three' is ambiguous",
    "zero apples": "count of zero",
    "one hundred thousand birds": "got 100000",
    "a million birds": "got 1000000",
    "three cats and dogs": "'dog' has no number",
    "not seven apples": "'not seven' is ambiguous",
    "seven apples instead of two dogs": "'instead of two' is ambiguous",
    "twice seven apples": "'twice seven' is ambiguous",
    "three times seven apples": "'three times' is arithmetic",
    "a dozen dozen cats": "'a dozen dozen' is arithmetic",
    "two dozen pairs of scissors": "is arithmetic",
    "a cat chasing another": "'another' counts nothing",
    "seven": "no noun follows",
    "3 4 cats": "two numbers stand together",
    "": "empty",
    "  \n": "empty",
    "seven apples " * 40: f"at most {MAX_PROMPT_LENGTH}",
    # Digits that are not plain ones, and signs that change a number.
    "2² apples": "'2²' is not one whole number",
    "⑦ apples": "'⑦' is not one whole number",
    "1٣ apples": "is not one whole number",
    "7% apples": "'7%' is not one whole number",
    "$7 apples": "contains no number",
    "≥3 cats": "'≥ 3' has several readings",
    "- 3 apples": "'- 3' has several readings",
    "a 3.5 apple": "is ambiguous",
    "seven apples, 2x4 dogs": "'2x4' is not one whole number",
    "seven apples and 7k dogs": "'dog' has no number",
    "\u202e12 apples": r"character 1 of the prompt is '\\u202e'",
    "\udc80 12 apples": r"character 1 of the prompt is '\\udc80'",
    # Punctuation, articles and sizes name no object.
    "seven ~": "no noun follows",
    "seven an": "no noun follows",
    # Numbers of numbers.
    "a whole dozen eggs": "is ambiguous",
    "a gross of eggs": "contains no number",
    "a hundred-odd birds": "is ambiguous",
    "a couple dancing in the rain": "no noun follows",
    "a score board": "no plural follows",
    "half of seven apples": "'half' makes parts",
    "two thirds of an apple": "'thirds' makes parts",
    "seven minus two apples": "'seven minus' is arithmetic",
    "two fewer than seven apples": "is arithmetic",
    "seven percent of apples": "is arithmetic",
    "seven apples or two dogs": "'or' leaves several readings",
}


def written(targets: tuple[Target, ...]) -> str:
    return ",".join(f"{target.object_name}={target.target_count}" for target in targets)


def test_prompts_are_read_and_names_that_the_critic_knows_win() -> None:
    assert {prompt: written(parse(prompt)) for prompt in READINGS} == READINGS
    assert {prompt: written(parse(prompt, KNOWN)) for prompt in READINGS} == READINGS
    read = {prompt: (written(parse(prompt)), written(parse(prompt, KNOWN))) for prompt in READINGS_WITH_CLASSES}
    assert read == READINGS_WITH_CLASSES


def test_prompt_without_one_clear_count_is_an_error(subtests: pytest.Subtests) -> None:
    for prompt, reason in ERRORS.items():
        with subtests.test(prompt=prompt), pytest.raises(PromptError, match=reason):
            parse(prompt)


def test_every_number_word_up_to_a_hundred_is_read() -> None:
    for count in range(2, 101):
        assert parse(f"{english().number_to_words(count)} apples") == (Target("apple", count),)
        assert parse(f"{count} apples") == (Target("apple", count),)


def test_override_names_counts() -> None:
    assert targets_from("apple=7,dog=2") == (Target("apple", 7), Target("dog", 2))
    assert targets_from(" Wine Glasses = 3 ") == (Target("wine glass", 3),)


BAD_OVERRIDES = {
    **dict.fromkeys(["", "apple", "apple=", "=7", "apple=seven", "apple=7;dog=2", "apple=7,", "a=1.5"], "NAME=COUNT"),
    **dict.fromkeys(["apple=0", "apple=-1", "apple=1001"], "from 1 to 1000"),
    "apple=7,apples=2": "'apple' is given twice",
}


def test_bad_overrides_and_targets_are_errors(subtests: pytest.Subtests) -> None:
    for text, reason in BAD_OVERRIDES.items():
        with subtests.test(text=text), pytest.raises(PromptError, match=reason):
            targets_from(text)
    for count in [0, -1, 1001, True, 2.0, "2"]:
        with subtests.test(count=count), pytest.raises(PromptError, match="whole number from 1 to 1000"):
            Target("apple", count)  # type: ignore[arg-type]
    with pytest.raises(PromptError, match="needs the name"):
        Target(" ", 3)
    with pytest.raises(ValueError, match="empty"):
        parse(None)  # type: ignore[arg-type]
