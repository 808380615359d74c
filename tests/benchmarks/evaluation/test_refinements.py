"""Prompt refinements: other words, the same count."""

from __future__ import annotations

import re

import pytest

from countgen.benchmarks.evaluation.refinements import REFINEMENTS, grid, multiplicative, position, refine
from countgen.benchmarks.evaluation.suites import Prompt, load
from countgen.benchmarks.evaluation.suites.words import number_word
from countgen.prompts import Target
from countgen.prompts.number_words import value_of


def asked(count: int, name: str = "apple", plural: str = "apples") -> Prompt:
    noun = name if count == 1 else plural
    return Prompt(f"a photo of {number_word(count)} {noun}", (Target(name, count),), "s", {"scene": "none"})


def numbers(text: str) -> list[int]:
    return [value for word in re.findall(r"[\w-]+", text) if (value := value_of(word)) is not None]


@pytest.mark.parametrize("refinement", REFINEMENTS)
def test_a_refinement_keeps_targets_and_says_its_name(refinement: str) -> None:
    for prompt in (*load("t2icountbench-style")[::7], *load("d2d-multi-style")[::7]):
        refined = refine(prompt, refinement)
        assert (refined.targets, refined.suite, refined.level) == (prompt.targets, prompt.suite, prompt.level)
        assert refined.prompt.startswith(prompt.prompt)
        assert refined.tags == {**prompt.tags, "refinement": refinement}


def test_the_parts_add_up_to_the_count(subtests: pytest.Subtests) -> None:
    for count in range(1, 31):
        with subtests.test(count=count):
            added = {name: refine(asked(count), name).prompt.removeprefix(asked(count).prompt) for name in REFINEMENTS}
            assert sum(numbers(added["additive"])) == (count if count > 1 else 0)
            assert sum(numbers(added["position"])) == count
            rows, columns, *rest = numbers(added["multiplicative"]) or [1, count]
            assert rows * columns + sum(rest) == count
            rows, columns = numbers(added["grid"]) or [1, 1]
            assert (rows - 1) * columns < count <= rows * columns


def test_what_they_say() -> None:
    assert multiplicative(asked(7)).prompt == "a photo of seven apples, two rows of three apples and one more apple"
    assert grid(asked(7)).prompt == "a photo of seven apples, the apples in a grid of two rows and four columns"
    two = Prompt("two scissors and a cup of tea", (Target("scissors", 2), Target("cup of tea", 1)), "s")
    assert position(two).prompt == (
        "two scissors and a cup of tea, one scissors in the center, one at the top left, "
        "one cup of tea at the bottom right"
    )


def test_a_refined_prompt_fits_into_clips_77_tokens() -> None:
    # All are plain words, one token each but for "watercolor" and the like; signs are tokens too.
    for prompt in load("t2icountbench-style"):
        for refinement in REFINEMENTS:
            assert len(re.findall(r"\w+|,", refine(prompt, refinement).prompt)) <= 73


def test_an_unknown_refinement_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown refinement 'magic'; available: multiplicative"):
        refine(asked(7), "magic")


def test_a_refinement_that_gets_too_long_is_refused() -> None:
    long = Prompt("seven apples " + "x" * 480, (Target("apple", 7),), "s")
    with pytest.raises(ValueError, match="at most 500"):
        refine(long, "position")
