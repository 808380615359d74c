"""Object names in the prompt's words and in the detector's: plurals, synonyms, near matches."""

import pytest

from countgen.critics.vocabulary import COCO_CLASSES, SYNONYMS, can_be_plural, english, resolve, singular, spellings

pytestmark = pytest.mark.core
SINGULARS = dict(
    pair.split(":")
    for pair in (
        "strawberries:strawberry buses:bus octopuses:octopus octopi:octopus cacti:cactus lenses:lens geese:goose "
        "knives:knife dice:die people:person children:child leaves:leaf tomatoes:tomato kiwis:kiwi taxis:taxi skis:ski "
        "emus:emu pandas:panda vases:vase ties:tie shoes:shoe women:woman DOGS:dog"
    ).split()
)
PHRASES = {"wine glasses": "wine glass", "cups of tea": "cup of tea", "  Hot   Dogs ": "hot dog", "  ": ""}
ALREADY_SINGULAR = (
    "bus octopus cactus lens glass goose fish sheep deer iris gas walrus asparagus virus compass dress chess tennis "
    "atlas canvas platypus axis scissors jeans sunglasses cheese horse apple mouse series"
).split()
DETECTOR = ("person", "airplane", "sports ball", "dog", "donut", "couch", "dining table", "tv", "cell phone", "skis")
NAMED = {"sofas": "couch", "planes": "airplane", "mobile phones": "cell phone", "women": "person", "ski": "skis"}


def test_singular_of_a_plural_and_of_a_singular() -> None:
    assert {plural: singular(plural) for plural in SINGULARS | PHRASES} == SINGULARS | PHRASES
    assert [singular(noun) for noun in ALREADY_SINGULAR] == ALREADY_SINGULAR


def test_what_may_follow_a_number_above_one() -> None:
    words = ["cups", "mice", "sheep", "fish", "scissors", "buses", "cup", "bus", "red", "glass", "teddy", "black"]
    assert [word for word in words if can_be_plural(word)] == words[:6]


def test_a_class_is_resolved_from_its_name_its_plural_and_its_synonyms() -> None:
    assert {name: DETECTOR[resolve(name, DETECTOR, "yolo")] for name in NAMED} == NAMED
    for index, name in enumerate(COCO_CLASSES):
        assert resolve(name.upper(), COCO_CLASSES, "yolo") == index
        assert resolve(english().plural(name), COCO_CLASSES, "yolo") == index
    words = spellings(DETECTOR)
    assert {word: DETECTOR[resolve(word, DETECTOR, "yolo")] for word in words} == words
    assert words["puppy"] == "dog"
    # A class of that very name comes before its singular, and that before a synonym.
    assert resolve("glasses", ("glass", "glasses"), "yolo") == resolve("balls", ("sports ball", "ball"), "yolo") == 1
    assert spellings(["sports ball", "ball"])["ball"] == "ball"


def test_the_synonyms_are_singular_and_none_stands_in_two_groups() -> None:
    words = [word for group in SYNONYMS for word in group]
    assert len(words) == len(set(words))
    assert [word for word in words if singular(word) != word] == []


@pytest.mark.parametrize(
    ("name", "names", "help_"),
    [
        ("aple", COCO_CLASSES, "nearest: apple, .*; it knows person, .*, giraffe and 56 more; owl:owlv2-base "),
        ("quux", ("cat", "dog"), "it knows cat, dog; owl:owlv2-base .Apache-2.0, 620 MB. reads any noun"),
        ("puppies", ("cat",), "it knows cat; nanodet, which is embedded, knows it"),
    ],
)
def test_an_unknown_object_names_classes_and_a_detector_that_knows_it(
    name: str, names: tuple[str, ...], help_: str
) -> None:
    with pytest.raises(ValueError, match=f"yolo has no class for '{name}'; {help_}"):
        resolve(name, names, "yolo")
