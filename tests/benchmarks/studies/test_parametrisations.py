import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.studies import parametrisations
from benchmarks.studies.parametrisations import PAIRS, RATES, Record, chosen_rate, chosen_way, read, report, ways
from countgen.run import LATENT_MODIFIER


def record(
    way: str, rate: float, *, purpose: str = "tuning", right: bool = True, seed: int = 0, spent: int = 5
) -> Record:
    return Record(purpose, way, rate, "a photo of two cats", seed, 2, right, right, 0.5, 0.1, spent, 0.2)


def test_every_pair_that_is_compared_is_measured() -> None:
    measured = ways(3)
    assert {way for pair in PAIRS for way in pair} == set(measured)
    assert {(settings.parametrisation, settings.optimizer) for settings in measured.values()} == set(RATES)


def test_the_rate_with_most_right_pictures_is_chosen_and_the_cheaper_of_equal_ones() -> None:
    found = [record("a", 1.0, right=False), record("a", 2.0, spent=9), record("a", 3.0, spent=4), record("b", 4.0)]
    assert chosen_rate(found, "a") == 3.0
    reporting = [record("a", 1.0, purpose="reporting", spent=1)] * 3
    assert chosen_rate(found + reporting, "a") == 3.0


def test_the_method_lmn_has_the_setting_that_the_committed_tuning_records_choose() -> None:
    committed = read(Path(parametrisations.__file__).parents[1] / "results" / "parametrisations.jsonl")
    tried = [way for way in ways(1) if way.startswith("lmn")]
    best = chosen_way(committed, tried)
    settings = replace(ways(1)[best], learning_rate=chosen_rate(committed, best), num_optimization_steps=12)
    assert settings == LATENT_MODIFIER


def test_the_report_counts_reporting_seeds_only_and_pairs_the_same_cases() -> None:
    first, second = PAIRS[0]
    found = [record(first, 1.0), record(second, 1.0)]
    for seed, (mine, other) in enumerate([(True, False), (True, True), (False, False)]):
        found.append(record(first, 1.0, purpose="reporting", right=mine, seed=seed))
        found.append(record(second, 1.0, purpose="reporting", right=other, seed=seed))
    found.append(record(first, 1.0, purpose="reporting", seed=9))  # its partner is missing
    text = report(found)
    assert f"| {first} | 1 | 4 | 75 [" in text
    assert f"{first} against {second}: 1 won, 0 lost of 3" in text


def test_records_are_kept_and_what_is_there_is_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "records.jsonl"
    arguments = ["--counts", "2-2", "--pairs", "1", "--evaluations", "1", "--out", str(out)]
    assert parametrisations.main(arguments) == 0
    lines = out.read_text().splitlines()
    rates = sum(len(RATES[settings.parametrisation, settings.optimizer]) for settings in ways(1).values())
    assert len(lines) == rates + len(ways(1))
    assert {json.loads(line)["evaluations"] for line in lines} == {1}
    assert parametrisations.main(arguments) == 0
    assert out.read_text().splitlines() == lines
    capsys.readouterr()
    assert parametrisations.main(["--read", str(out)]) == 0
    assert "exact McNemar p = 1" in capsys.readouterr().out
