"""What the records of the parametrisations choose, and what is reported of them."""

from typing import Any

import pytest

from benchmarks.studies import parametrisations
from benchmarks.studies.parametrisations import PAIRS, chosen_arm, chosen_rate, read, report
from countgen.methods.lmn import LMNSettings


def record(
    arm: str, rate: float, *, purpose: str = "tuning", right: bool = True, seed: int = 0, spent: int = 5
) -> dict[str, Any]:
    case = {"prompt": "a photo of two cats", "seed": seed, "target_count": 2}
    found = {"right": right, "confirmed": right, "distance": 0.1, "evaluations": spent}
    return {"purpose": purpose, "way": arm, "learning_rate": rate, **case, **found}


def test_the_rate_with_most_right_images_is_chosen_and_the_cheaper_of_equal_ones() -> None:
    found = [record("a", 1.0, right=False), record("a", 2.0, spent=9), record("a", 3.0, spent=4), record("b", 4.0)]
    assert chosen_rate(found, "a") == 3.0
    reporting = [record("a", 1.0, purpose="reporting", spent=1)] * 3
    assert chosen_rate(found + reporting, "a") == 3.0


def test_the_method_lmn_has_the_setting_that_the_committed_tuning_records_choose() -> None:
    committed = read()
    best = chosen_arm(committed, sorted({r["way"] for r in committed if r["way"].startswith("lmn")}))
    _, optimizer, prior = best.split(", ")
    power = {"ReNO prior": 1.0, "sharpened prior": 10.0}[prior]
    rate = chosen_rate(committed, best)
    assert LMNSettings(optimizer=optimizer, prior_power=power, learning_rate=rate) == LMNSettings()


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


def test_the_committed_records_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert parametrisations.main([]) == 0
    printed = capsys.readouterr().out
    assert "6 won, 0 lost of 36, exact McNemar p = 0.031, after Holm's correction 0.19" in printed
