"""What the page says of an image: how probable its count is, in words, and the code that makes it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CODE = """import countgen
from countgen.images import read_recipe, save_png
from countgen.recipe import check, regenerate

# The same pixels, from the PNG of this page:
recipe = read_recipe({file!r})
image = regenerate(recipe, check(recipe).load("cpu"))

# Others like it:
models = countgen.load({backbone!r})
result = countgen.generate({prompt!r}, models, seed={seed}, method={method!r}, max_evaluations=100)
print(result.judge_counts, f"{{result.probability:.0%}} sure")
save_png(result.image, "counted.png", result.recipe)
"""
WITH_TOKEN = (
    "# It was made with a count token: give token=countgen.load_token(FILE) to check, regenerate and generate.\n"
)
GRADES = (
    (0.98, "almost certainly right"),
    (0.9, "very probably right"),
    (0.7, "probably right"),
    (0.4, "perhaps right"),
    (0.0, "probably wrong"),
)


def python_of(recipe: Mapping[str, Any], file: str) -> str:
    """Return code for the image of a recipe, which the named PNG holds."""
    fields = {name: recipe[name] for name in ("prompt", "backbone", "seed", "method")}
    return WITH_TOKEN * bool(recipe.get("token")) + CODE.format(file=file, **fields)


def in_words(probability: float) -> str:
    """Return the probability of a right count in words, with its number.

    >>> in_words(0.993), in_words(0.5)
    ('almost certainly right (99 %)', 'perhaps right (50 %)')
    """
    words = next(words for least, words in GRADES if probability >= least)
    return f"{words} ({min(99, round(100 * probability))} %)"
