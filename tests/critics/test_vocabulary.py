from collections.abc import Sequence

import pytest

from countgen.critics.vocabulary import COCO_CLASSES, can_be_plural, english, resolve, singular

SINGULARS = {
    "apples": "apple",
    "strawberries": "strawberry",
    "buses": "bus",
    "octopuses": "octopus",
    "octopi": "octopus",
    "cacti": "cactus",
    "lenses": "lens",
    "glasses": "glass",
    "wine glasses": "wine glass",
    "geese": "goose",
    "knives": "knife",
    "dice": "die",
    "mice": "mouse",
    "people": "person",
    "children": "child",
    "teddy bears": "teddy bear",
    "cups of tea": "cup of tea",
    "leaves": "leaf",
    "loaves": "loaf",
    "doves": "dove",
    "tomatoes": "tomato",
    "kiwis": "kiwi",
    "taxis": "taxi",
    "skis": "ski",
    "emus": "emu",
    "pandas": "panda",
    "vases": "vase",
    "matches": "match",
    "ladies": "lady",
    "ties": "tie",
    "shoes": "shoe",
    "women": "woman",
    "fishes": "fish",
    "DOGS": "dog",
    "  Hot   Dogs ": "hot dog",
}
ALREADY_SINGULAR = (
    "bus octopus cactus lens glass goose fish sheep deer iris gas walrus asparagus virus compass dress chess tennis "
    "atlas canvas platypus axis scissors jeans sunglasses cheese horse apple mouse series"
).split()


def test_singular_of_a_plural() -> None:
    assert {plural: singular(plural) for plural in SINGULARS} == SINGULARS


def test_singular_leaves_a_singular_alone() -> None:
    assert [singular(noun) for noun in ALREADY_SINGULAR] == ALREADY_SINGULAR


def test_inflect_loads_without_being_rewritten_and_everything_else_is_checked_as_before() -> None:
    import typeguard

    english()
    import inflect

    assert inflect.typechecked is not typeguard.typechecked
    assert typeguard.typechecked.__module__.startswith("typeguard")


def test_singular_of_nothing_is_nothing() -> None:
    assert singular("  ") == ""


def test_every_coco_class_is_found_by_its_name_and_its_plural(subtests: pytest.Subtests) -> None:
    for index, name in enumerate(COCO_CLASSES):
        with subtests.test(name=name):
            assert resolve(name.upper(), COCO_CLASSES, "critic") == index
            assert resolve(english().plural(name), COCO_CLASSES, "critic") == index


def test_a_plural_class_is_found_by_its_singular() -> None:
    assert COCO_CLASSES[resolve("ski", COCO_CLASSES, "critic")] == "skis"


@pytest.mark.parametrize(
    ("object_name", "names", "message"),
    [
        (
            "aple",
            COCO_CLASSES,
            "nearest: apple, .*; it knows person, .*, zebra and 56 more; owl:owlv2-base ",
        ),
        ("quux", ["cat", "dog"], "it knows cat, dog; owl:owlv2-base .Apache-2.0, 620 MB. reads any noun"),
        ("puppies", ["cat"], "it knows cat; nanodet, which is embedded, knows it"),
    ],
)
def test_an_unknown_object_names_classes_and_a_detector_that_knows_it(
    object_name: str, names: Sequence[str], message: str
) -> None:
    with pytest.raises(ValueError, match=f"critic has no class for '{object_name}'; {message}"):
        resolve(object_name, names, "critic")


def test_these_may_follow_a_number_above_one() -> None:
    words = ["cups", "mice", "sheep", "fish", "scissors", "buses"]
    assert [word for word in words if not can_be_plural(word)] == []


def test_these_may_not_follow_a_number_above_one() -> None:
    words = ["cup", "bus", "red", "glass", "teddy", "black"]
    assert [word for word in words if can_be_plural(word)] == []
