"""Words of the suites: counts, classes of COCO with their plurals, scenes and styles."""

from __future__ import annotations

from countgen.miniature.world import NUMBER_WORDS as _TO_FIFTEEN

NUMBER_WORDS = (*_TO_FIFTEEN, "sixteen", "seventeen", "eighteen", "nineteen", "twenty")

CATEGORIES: dict[str, tuple[tuple[str, str], ...]] = {
    "food": (
        ("apple", "apples"),
        ("orange", "oranges"),
        ("banana", "bananas"),
        ("carrot", "carrots"),
        ("donut", "donuts"),
        ("cake", "cakes"),
        ("pizza", "pizzas"),
        ("sandwich", "sandwiches"),
        ("hot dog", "hot dogs"),
    ),
    "animal": (
        ("cat", "cats"),
        ("dog", "dogs"),
        ("bird", "birds"),
        ("horse", "horses"),
        ("sheep", "sheep"),
        ("cow", "cows"),
        ("elephant", "elephants"),
        ("bear", "bears"),
        ("zebra", "zebras"),
        ("giraffe", "giraffes"),
    ),
    "vehicle": (
        ("car", "cars"),
        ("bus", "buses"),
        ("bicycle", "bicycles"),
        ("truck", "trucks"),
        ("motorcycle", "motorcycles"),
        ("airplane", "airplanes"),
        ("boat", "boats"),
        ("train", "trains"),
        ("skateboard", "skateboards"),
        ("surfboard", "surfboards"),
    ),
    "household": (
        ("cup", "cups"),
        ("bottle", "bottles"),
        ("clock", "clocks"),
        ("book", "books"),
        ("chair", "chairs"),
        ("vase", "vases"),
        ("bowl", "bowls"),
        ("spoon", "spoons"),
        ("wine glass", "wine glasses"),
        ("teddy bear", "teddy bears"),
        ("umbrella", "umbrellas"),
    ),
}
"""Forty classes of COCO (object_name, plural) in four categories; published detectors have all of them."""

SCENES: dict[str, tuple[str, ...]] = {
    "food": ("on a wooden board", "on a white cloth", "on the grass"),
    "animal": ("on the grass", "in the snow", "on the beach"),
    "vehicle": ("on the sand", "in the snow", "in front of a brick wall"),
    "household": ("on a wooden floor", "on a white cloth", "in front of a brick wall"),
}
"""Scenes for the objects of each category; none contains an object that a detector would count."""

STYLES: dict[str, str] = {
    "oil painting": "an oil painting of",
    "watercolor": "a watercolor painting of",
    "cartoon": "a cartoon drawing of",
}
"""Beginnings of prompts for styles other than a photo."""


def number_word(count: int) -> str:
    """Return a count as a word up to twenty, in digits above."""
    return NUMBER_WORDS[count] if count < len(NUMBER_WORDS) else str(count)


def counted(noun: tuple[str, str], count: int) -> str:
    """Return number word and noun: "one apple", "seven apples"."""
    return f"{number_word(count)} {noun[0] if count == 1 else noun[1]}"
