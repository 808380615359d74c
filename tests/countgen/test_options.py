"""The options of an image, given at once or one by one, and the results that come back."""

import json
import math
from collections.abc import Iterator
from dataclasses import fields

import pytest
import torch

import countgen
from countgen.options import OptionFields


def test_keyword_arguments_are_exactly_the_options_and_replace_them(models: countgen.Models) -> None:
    assert {field.name for field in fields(countgen.Options)} == OptionFields.__optional_keys__
    run = countgen.Run("a photo of two apples", models, countgen.Options(method="plain", seed=3), seed=5)
    assert (run.options.method, run.seed) == ("plain", 5)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"method": "magic"}, "Available: auto, .*noise, plain, .*search"),
        ({"method": "noise", "settings": countgen.methods.load("search").settings_class()}, "NoiseSettings"),
        ({"until": "tomorrow"}, "critic, judge"),
        ({"seed": 2**32}, "2\\*\\*32 - 1"),
        ({"seed": True}, "whole number .* got True"),
        ({"seed": 1.5}, "whole number .* got 1.5"),
        ({"max_evaluations": 60.0}, "max_evaluations must be a whole number, got 60.0"),
        ({"max_evaluations": 0}, "max_evaluations"),
        ({"max_seconds": 0}, "above 0"),
        *(({"sure": sure}, "sure must be a probability above 0 and below 1") for sure in (0, 1, True, None, math.nan)),
        *(({"worth": worth}, "worth must be a number of evaluations above 0") for worth in (0, -1, True, math.nan)),
    ],
)
def test_options_outside_their_range_are_errors(options: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        countgen.Options(**options)  # type: ignore[arg-type]


def test_a_batch_yields_what_single_calls_return(models: countgen.Models) -> None:
    prompts, seeds = ["a photo of two apples", "three dogs"], [4, 5]
    results = countgen.generate_batch(prompts, models, seeds=seeds, method="plain")
    assert isinstance(results, Iterator)
    batch = list(results)
    assert [(result.recipe["prompt"], result.seed) for result in batch] == [(p, s) for p in prompts for s in seeds]
    alone = countgen.generate(prompts[1], models, seed=4, method="plain")
    assert torch.equal(batch[2].image, alone.image)


def test_a_batch_with_an_unreadable_prompt_generates_nothing(models: countgen.Models) -> None:
    with pytest.raises(countgen.CountGenError):
        countgen.generate_batch(["two apples", "some apples"], models)
    with pytest.raises(ValueError, match=r"\['two apples'\]"):
        countgen.generate_batch("two apples", models)
    with pytest.raises(ValueError, match="seeds="):
        countgen.generate_batch(["two apples"], models, seed=1)


def test_a_result_becomes_json_and_prints_in_a_line(models: countgen.Models) -> None:
    result = countgen.generate("a photo of two apples", models, method="plain")
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert values["targets"] == {"apple": 2}
    assert values["judge_counts"] == list(result.judge_counts)
    assert [len(one["boxes"]) for one in values["detections"]] == list(result.judge_counts)
    assert values["recipe"]["prompt"] == "a photo of two apples"
    assert "2 apple" in repr(result)
    assert len(repr(result)) < 120
