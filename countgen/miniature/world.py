"""The names of the world that the embedded models were trained on; `countgen.benchmarks.miniature.world` renders it."""

from __future__ import annotations

OBJECT_NAMES: tuple[str, ...] = (
    *("apple", "orange", "banana", "strawberry", "lemon", "donut", "cookie", "carrot", "mushroom", "pumpkin"),
    *("cat", "dog", "bird", "fish", "turtle", "butterfly", "ladybug", "duck"),
    *("car", "bus", "ball", "cup", "clock", "flower"),
)
NUMBER_WORDS: tuple[str, ...] = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen"),
)
BACKGROUNDS = ("", " on a table", " on the grass", " in the snow", " on a blue background", " on the sand")
"""The words for each background in captions; the first background, a plain gradient, has none."""

HELD_OUT_OBJECTS: frozenset[str] = frozenset({"lemon", "mushroom", "duck", "cup"})
"""The objects that never occur in a training caption with a number."""
HELD_OUT_PAIRS: frozenset[tuple[str, int]] = frozenset({("apple", 5), ("dog", 4), ("car", 7), ("flower", 8)})
"""The pairs of object and count that no training caption states."""
