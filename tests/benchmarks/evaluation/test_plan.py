"""Which images a run has, by its settings, and which settings are errors; nothing is generated."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from countgen.app.arguments import Evaluate
from countgen.app.commands import parse
from countgen.app.evaluate import run_settings
from countgen.benchmarks.evaluation.plan import RunSettings, cases, suite_digest
from countgen.benchmarks.evaluation.worker import Worker
from countgen.miniature import FOLDER


def test_keys_name_what_decides_the_result(asked: RunSettings) -> None:
    def keys(**changes: object) -> set[str]:
        return {case.key for case in cases(replace(asked, **changes))}  # type: ignore[arg-type]

    everything = keys()
    assert len(everything) == 12
    assert keys(methods=("noise", "plain")) < everything
    assert keys(limit=1) < everything
    for changes in (
        {"max_evaluations": 7},
        {"max_seconds": 1.0},
        {"judges": ("miniature-heatmap",), "critics": ("miniature-yolo",)},
        {"code": "2"},
        {"threads": 2},
        {"first_seed": 1000},
        {"backbones": ("miniature-pixart",)},
    ):
        assert not keys(**changes) & everything


def test_settings_of_a_method_change_its_own_keys_only(asked: RunSettings) -> None:
    changed = replace(asked, method_settings=("noise.learning_rate=0.1",))
    before, after = ({(case.key, case.method) for case in cases(settings)} for settings in (asked, changed))
    assert {method for _, method in before - after} == {"noise"}
    assert {method for _, method in after - before} == {"noise"}


def test_settings_of_methods_are_kept_in_one_way_of_writing(asked: RunSettings) -> None:
    given = ["auto.refinement.learning_rate=1e-1", "noise.learning_rate=0.2", "noise.learning_rate=0.10"]
    given += ["noise.prior_weight=0.01", "auto+token.refinement_cost=3.0"]
    settings = replace(asked, methods=("noise", "auto", "auto+token"), method_settings=tuple(given))
    assert settings.method_settings == (
        *("noise.learning_rate=0.1", "auto.refinement.learning_rate=0.1", "auto+token.refinement_cost=3.0"),
    )


def test_a_prompt_that_is_listed_twice_with_one_seed_is_generated_once(asked: RunSettings, tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("prompt,seed\ntwo apples,7\ntwo apples,7\ntwo apples,8\n")
    mine = replace(asked, suite=str(path), suite_sha256=suite_digest(str(path)), methods=("plain",))
    assert [case.seed for case in cases(mine)] == [7, 8]
    path.write_text("prompt,seed\ntwo apples,7\ntwo apples,9\n")
    with pytest.raises(ValueError, match="has changed since"):
        cases(mine)


def test_seeds_beyond_the_last_one_are_an_error(asked: RunSettings) -> None:
    assert len(cases(replace(asked, first_seed=2**32 - 3))) == 12
    with pytest.raises(ValueError, match="prompt 3 would get seeds from 4294967296 on"):
        cases(replace(asked, first_seed=2**32 - 2))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"methods": ("magic",)}, "unknown method 'magic'.* Available: auto, "),
        ({"methods": ("auto+tokens",)}, "unknown method 'auto.tokens'; give auto or auto.token"),
        ({"methods": ()}, "at least one method"),
        ({"method_settings": ("auto.x=3",)}, "no method 'auto'; it has plain, .*; write METHOD.NAME=VALUE"),
        ({"method_settings": ("noise.learning_rate=-1",)}, "noise: learning_rate must be above 0, got -1"),
        ({"backbones": ("minature",), "critics": (), "judges": ()}, "Did you mean miniature"),
        ({"critics": ("miniature-yolo",) * 2}, "at least one critic, and each once"),
        ({"critics": ()}, "name critics and judges"),
        ({"judges": ("miniature-yolo",)}, "critic and judge"),
        ({"judges": ("nosuch",)}, "unknown detector 'nosuch'"),
        ({"methods": ("plain", "plain+token"), "backbones": ("sd-turbo",)}, "no count token is shipped"),
        ({"max_evaluations": None}, "budget"),
    ],
)
def test_settings_that_make_no_sense_are_errors(asked: RunSettings, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        replace(asked, **changes)


def test_a_second_judge_of_a_critics_architecture_is_an_error(asked: RunSettings) -> None:
    twin = f"fcos:{FOLDER / 'judge' / 'model.safetensors'}"
    with pytest.raises(ValueError, match=r"judge miniature-fcos is of the same family .* as the critic"):
        Worker(replace(asked, critics=(twin,), judges=("miniature-yolo", "miniature-fcos")), "miniature")


def test_the_parts_of_a_critic_are_no_judges() -> None:
    pair = "miniature-yolo by miniature-density"
    suite = "t2icountbench-miniature"

    def settings(*more: str) -> RunSettings:
        command = parse(["eval", "--suite", suite, "--out", "run", "--critic", pair, *more])
        assert isinstance(command, Evaluate)
        return run_settings(command, suite)

    assert settings().judges == ("miniature-fcos", "miniature-heatmap")
    for name in ("miniature-density", pair):
        with pytest.raises(ValueError, match="is critic and judge"):
            settings("--judge", name)
