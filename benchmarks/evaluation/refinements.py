"""Rephrase the count of a prompt: the four prompt refinements of the T2ICountBench study.

The study found that they lower the accuracy of models; they serve as a baseline. The strategies are the study's, the
sentences ours. Targets do not change. A refined prompt is longer: an encoder that reads few tokens, such as the
embedded miniature's, truncates it.

Source: Guo et al. 2025 (arXiv 2503.06884), the section on prompt refinement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

from countgen.benchmarks.evaluation.suites import Prompt
from countgen.benchmarks.evaluation.suites.words import number_word
from countgen.prompts.plurals import counted

_PLACES = (
    *("in the center", "at the top left", "at the bottom right", "at the top right", "at the bottom left"),
    *("on the left", "on the right", "at the top", "at the bottom"),
)
"""Cells of a 3 x 3 grid, in the order in which they are filled."""


def refine(prompt: Prompt, refinement: str) -> Prompt:
    """Return the prompt with a refinement by name.

    Args:
        prompt: to refine.
        refinement: a name from `REFINEMENTS`.

    Raises:
        ValueError: no such refinement, or the refined prompt is longer than 500 characters.
    """
    if refinement not in REFINEMENTS:
        raise ValueError(f"unknown refinement {refinement!r}; available: {', '.join(REFINEMENTS)}")
    return REFINEMENTS[refinement](prompt)


def multiplicative(prompt: Prompt) -> Prompt:
    """Return the prompt with rows of equal length and a remainder: "two rows of three apples and one more apple"."""
    phrases = []
    for target in prompt.targets:
        rows = math.isqrt(target.target_count)
        columns, rest = divmod(target.target_count, rows)
        # Up to three objects there is one row, and nothing to multiply.
        if rows > 1:
            more = f" and {number_word(rest)} more {counted(target.object_name, rest)}" if rest else ""
            phrases.append(
                f"{number_word(rows)} rows of {number_word(columns)} {counted(target.object_name, columns)}{more}"
            )
    return _with(prompt, "multiplicative", phrases)


def additive(prompt: Prompt) -> Prompt:
    """Return the prompt with two parts: "four apples on the left and three apples on the right"."""
    phrases = []
    for target in prompt.targets:
        right = target.target_count // 2
        left = target.target_count - right
        if right:
            phrases.append(
                f"{number_word(left)} {counted(target.object_name, left)} on the left "
                f"and {number_word(right)} {counted(target.object_name, right)} on the right"
            )
    return _with(prompt, "additive", phrases)


def grid(prompt: Prompt) -> Prompt:
    """Return the prompt with a near-square grid: "the apples in a grid of two rows and four columns"."""
    phrases = []
    for target in prompt.targets:
        rows = math.isqrt(target.target_count)
        columns = math.ceil(target.target_count / rows)
        if columns > 1:
            row = "one row" if rows == 1 else f"{number_word(rows)} rows"
            noun = counted(target.object_name, target.target_count)
            phrases.append(f"the {noun} in a grid of {row} and {number_word(columns)} columns")
    return _with(prompt, "grid", phrases)


def position(prompt: Prompt) -> Prompt:
    """Return the prompt with a place for every object: "one apple in the center, one at the top left, one dog ..."."""
    phrases = []
    taken = 0
    for target in prompt.targets:
        places = [_PLACES[(taken + one) % len(_PLACES)] for one in range(target.target_count)]
        taken += target.target_count
        for number, place in enumerate(dict.fromkeys(places)):
            count = places.count(place)
            noun = "" if number else f" {counted(target.object_name, count)}"
            phrases.append(f"{number_word(count)}{noun} {place}")
    return _with(prompt, "position", phrases)


REFINEMENTS: dict[str, Callable[[Prompt], Prompt]] = {
    "multiplicative": multiplicative,
    "additive": additive,
    "grid": grid,
    "position": position,
}


def _with(prompt: Prompt, refinement: str, phrases: Iterable[str]) -> Prompt:
    text = ", ".join((prompt.prompt.rstrip(" .,;"), *phrases))
    return replace(prompt, prompt=text, tags={**prompt.tags, "refinement": refinement})
