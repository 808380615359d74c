"""`countgen report A B`: the cases of both runs are paired, and nothing else is compared."""

import re
from pathlib import Path
from typing import Any

import pytest

from countgen.app.cli import main
from countgen.benchmarks.evaluation.records import Record
from tests.app.conftest import Answer, ErrorOf
from tests.benchmarks.evaluation.made_records import record, write_run

pytestmark = pytest.mark.core


def counted(method: str, seed: int, detector: int, counter: int, **changed: Any) -> Record:
    counts = {"detector": (detector,), "counter": (counter,)}
    return record(method, seed, judge_counts=counts, prompt=f"prompt {seed}", **changed)


def test_the_cases_of_both_are_paired_by_every_judge(
    tmp_path: Path, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    # Ten cases each, nine in common; the second run gets six more of these right by the first judge.
    first = [counted("plain", seed, 3 if seed < 2 else 4, 3) for seed in range(10)]
    second = [counted("plain", seed, 3 if seed < 8 else 5, 3) for seed in range(1, 11)]
    second += [counted("auto", seed, 3, 3) for seed in range(10)]
    write_run(tmp_path / "a", first, ("plain",), code="1")
    write_run(tmp_path / "b", second, code="2", device="cuda")
    runs = [str(tmp_path / name) for name in "ab"]
    code, compared = answer("report", *runs)
    assert code == 0
    methods = [["plain"], ["plain", "auto"]]
    assert compared["settings"] == {"methods": methods, "code": ["1", "2"], "device": [None, "cuda"]}
    by = {one["judge"]: one for one in compared["pairings"]}
    assert set(by) == {"detector", "counter", "unanimous"}
    detector, duel = by["detector"], by["detector"]["comparison"]["duel"]
    assert (detector["first"], detector["second"], detector["comparison"]["unpaired"]) == (1, 7, 2)
    assert (duel["cases"], duel["won"], duel["lost"], duel["p_value"]) == (9, 6, 0, pytest.approx(2 / 2**6))
    assert [(one["seed"], one["first"], one["second"], one["better"]) for one in compared["changes"]] == [
        (seed, [4], [3], True) for seed in range(2, 8)
    ]
    assert main(["report", *runs, "--cases", "2"]) == 0
    printed = capsys.readouterr().out
    assert "code: 1 -> 2" in printed
    assert re.search(r"plain, by detector +1 -> 7 of 9 ", printed)
    assert "by detector, 6 cases became right and 0 wrong" in printed
    assert printed.count("right: plain, seed") == 2
    assert "and 4 more" in printed


def test_runs_are_compared_whatever_their_only_method_and_their_lists_are_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = [counted("plain", seed, 4, 4, suite="a") for seed in range(3)]
    second = [counted("auto", seed, 3, 3, suite="b") for seed in range(3)]
    write_run(tmp_path / "a", first, ("plain",), suite="a.csv")
    write_run(tmp_path / "b", second, ("auto",), suite="b.csv")
    assert main(["report", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    printed = capsys.readouterr().out
    assert re.search("plain -> auto, by detector +0 -> 3 of 3 ", printed)
    assert "suite: a.csv -> b.csv" in printed


def test_other_judges_and_other_cases_are_not_compared(tmp_path: Path, answer: Answer, error_of: ErrorOf) -> None:
    first = write_run(tmp_path / "a", [record("plain", 0, judges=("detector", "x"), judge_counts={"detector": (3,)})])
    second = write_run(tmp_path / "b", [record("plain", 0)])
    assert [one["judge"] for one in answer("report", first, second)[1]["pairings"]] == ["detector"]
    other = write_run(tmp_path / "c", [counted("plain", 1, 3, 3)])
    assert "countgen eval --rejudge" in error_of("report", first, other)
    pears = write_run(tmp_path / "d", [counted("plain", 0, 3, 3, wanted={"pear": 3})])
    assert "share no case" in error_of("report", second, pears)
