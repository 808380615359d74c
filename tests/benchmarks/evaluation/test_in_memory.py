from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import countgen
from countgen.benchmarks.evaluation.in_memory import evaluate
from countgen.methods.plain import plain
from countgen.methods.settings import Settings


@dataclass(frozen=True)
class NoSettings(Settings):
    """None."""


def third_seed(problem: Any, seed: int, budget: Any, settings: NoSettings) -> Iterator[countgen.Step]:
    """Generate the plain image of another seed."""
    yield from plain(problem, seed + 2, budget, settings)


def test_models_and_methods_in_memory_are_evaluated(models: countgen.Models) -> None:
    prompts = ["a photo of three apples", "a photo of two dogs"]
    evaluation = evaluate(models, prompts, ["plain", third_seed], seeds=[5, 7], max_evaluations=4)
    by_case = {(record.prompt, record.seed, record.method): record for record in evaluation.records}
    assert len(by_case) == 8
    for prompt in prompts:
        plain_again = by_case[prompt, 7, "plain"]
        assert plain_again.judge_counts == by_case[prompt, 5, "third_seed"].judge_counts
        assert (
            plain_again.judge_counts[models.judge.name]
            == countgen.generate(prompt, models, method="plain", seed=7).judge_counts
        )
    frame = evaluation.to_pandas()[evaluation.tables[0].title]
    assert list(frame.columns) == ["plain", "third_seed"]
    assert frame.loc["images", "plain"] == "4"


def test_a_case_that_fails_is_a_record(models: countgen.Models) -> None:
    evaluation = evaluate(models, ["a photo of three unicorns"], ["plain"])
    assert [record.status for record in evaluation.records] == ["failed"]
    assert "unicorn" in evaluation.records[0].error


def test_a_judge_is_needed(models: countgen.Models) -> None:
    with pytest.raises(ValueError, match="judge"):
        evaluate(countgen.Models(models.backbone, models.critics, None), ["two apples"], ["plain"])
    with pytest.raises(ValueError, match="prompt"):
        evaluate(models, [], ["plain"])
