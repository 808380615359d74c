import pytest

from critics.vocabulary import COCO_CLASSES, can_be_plural, english, resolve, singular

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


@pytest.mark.parametrize(("plural", "expected"), SINGULARS.items())
def test_singular_of_a_plural(plural: str, expected: str) -> None:
    assert singular(plural) == expected


@pytest.mark.parametrize("noun", ALREADY_SINGULAR)
def test_singular_leaves_a_singular_alone(noun: str) -> None:
    assert singular(noun) == noun


def test_inflect_loads_without_being_rewritten_and_everything_else_is_checked_as_before() -> None:
    import typeguard

    english()
    import inflect

    assert inflect.typechecked is not typeguard.typechecked
    assert typeguard.typechecked.__module__.startswith("typeguard")


def test_singular_of_nothing_is_nothing() -> None:
    assert singular("  ") == ""


@pytest.mark.parametrize("name", COCO_CLASSES)
def test_every_coco_class_is_found_by_its_name_and_its_plural(name: str) -> None:
    assert resolve(name.upper(), COCO_CLASSES, "critic") == COCO_CLASSES.index(name)
    assert resolve(english().plural(name), COCO_CLASSES, "critic") == COCO_CLASSES.index(name)


def test_a_plural_class_is_found_by_its_singular() -> None:
    assert COCO_CLASSES[resolve("ski", COCO_CLASSES, "critic")] == "skis"


def test_an_unknown_object_names_the_nearest_classes() -> None:
    with pytest.raises(ValueError, match="critic has no class for 'aple'; nearest: apple"):
        resolve("aple", COCO_CLASSES, "critic")


def test_an_unknown_object_without_neighbours_lists_the_classes() -> None:
    with pytest.raises(ValueError, match="it knows cat, dog"):
        resolve("quux", ["cat", "dog"], "critic")


@pytest.mark.parametrize("word", ["cups", "mice", "sheep", "fish", "scissors", "buses"])
def test_these_may_follow_a_number_above_one(word: str) -> None:
    assert can_be_plural(word)


@pytest.mark.parametrize("word", ["cup", "bus", "red", "glass", "teddy", "black"])
def test_these_may_not_follow_a_number_above_one(word: str) -> None:
    assert not can_be_plural(word)
