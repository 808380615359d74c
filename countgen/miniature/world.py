"""The names of the world that the embedded models were trained on; `countgen.benchmarks.miniature.world` renders it."""

from __future__ import annotations

_WORDS = (
    ("apple", "apples"),
    ("orange", "oranges"),
    ("banana", "bananas"),
    ("strawberry", "strawberries"),
    ("lemon", "lemons"),
    ("donut", "donuts"),
    ("cookie", "cookies"),
    ("carrot", "carrots"),
    ("mushroom", "mushrooms"),
    ("pumpkin", "pumpkins"),
    ("cat", "cats"),
    ("dog", "dogs"),
    ("bird", "birds"),
    ("fish", "fish"),
    ("turtle", "turtles"),
    ("butterfly", "butterflies"),
    ("ladybug", "ladybugs"),
    ("duck", "ducks"),
    ("car", "cars"),
    ("bus", "buses"),
    ("ball", "balls"),
    ("cup", "cups"),
    ("clock", "clocks"),
    ("flower", "flowers"),
)
OBJECT_NAMES: tuple[str, ...] = tuple(one for one, _ in _WORDS)
PLURALS: tuple[str, ...] = tuple(many for _, many in _WORDS)
NUMBER_WORDS: tuple[str, ...] = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen"),
)
BACKGROUNDS: tuple[str, ...] = (
    "",
    " on a table",
    " on the grass",
    " in the snow",
    " on a blue background",
    " on the sand",
)
"""The words for each background in captions; the first background, a plain gradient, has none."""


HELD_OUT_OBJECTS: frozenset[str] = frozenset({"lemon", "mushroom", "duck", "cup"})
"""The objects that never occur in a training caption with a number."""
HELD_OUT_PAIRS: frozenset[tuple[str, int]] = frozenset({("apple", 5), ("dog", 4), ("car", 7), ("flower", 8)})
"""The pairs of object and count that no training caption states."""
