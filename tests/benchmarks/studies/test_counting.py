"""The counting benchmarks run, and their tables say what the records say."""

import json

import pytest

from benchmarks.studies import counting, faithfulness, tuning
from benchmarks.studies import readme_image as picture
from benchmarks.studies.cases import SEEDS, one_kind, two_kinds
from benchmarks.studies.counting import Record
from countgen.prompts import parse


def record(method: str, seed: int, right: bool, total: int = 3, confirmed: bool = True) -> Record:
    return Record(method, "a photo of three cats", seed, total, 1, right, True, confirmed, 0.5, 4)


def test_cases_say_in_words_what_their_targets_say():
    for case in (*one_kind(range(1, 16), 5, "tuning"), *two_kinds(range(2, 11), 5, "tuning")):
        assert parse(case.prompt) == case.targets


def test_tuning_and_reporting_share_no_seed():
    seeds = {
        purpose: {c.seed for c in (*one_kind(range(1, 16), 30, purpose), *two_kinds(range(2, 16), 30, purpose))}
        for purpose in SEEDS
    }
    assert not seeds["tuning"] & seeds["reporting"]


def test_every_case_has_a_seed_of_its_own():
    cases = [*one_kind(range(1, 16), 30, "reporting"), *two_kinds(range(2, 16), 30, "reporting")]
    assert len({case.seed for case in cases}) == len(cases)


def test_table_counts_right_pictures_by_total():
    records = [record("auto", seed, right=seed < 3) for seed in range(4)]
    lines = counting.table(records, ["auto"]).splitlines()
    assert lines[2].startswith("| 3 | 4 | 75 [")
    assert lines[3].startswith("| **1-5** | 4 | 75 [")


def test_costs_show_how_often_a_confirmed_picture_is_wrong():
    records = [record("auto", seed, right=seed > 0, confirmed=seed < 2) for seed in range(4)]
    (line,) = counting.costs(records, ["auto"]).splitlines()[2:]
    assert "2 of 4" in line
    assert "50 [" in line


def test_comparison_counts_wins_on_the_same_cases():
    records = [record("auto", seed, right=True) for seed in range(6)]
    records += [record("search", seed, right=seed == 0) for seed in range(6)]
    assert "5 won, 0 lost of 6" in counting.comparison(records, "auto", "search")


def test_counting_prints_its_tables_and_keeps_its_records(tmp_path, capsys):
    out = tmp_path / "deep" / "records.jsonl"
    arguments = ["--counts", "2-3", "--pairs", "1", "--methods", "plain,search,auto", "--seconds", "0.3"]
    assert counting.main([*arguments, "--threads", "1", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "| 2 | 1 |" in printed
    assert "McNemar" in printed
    assert len([json.loads(line) for line in out.read_text().splitlines()]) == 6


def test_tuning_prints_one_line_a_setting(capsys):
    assert tuning.main(["searches", "--counts", "2-2", "--pairs", "1", "--evaluations", "4", "--threads", "1"]) == 0
    assert capsys.readouterr().out.count("before refining") == len(tuning.SWEEPS["searches"])


def test_tuning_refuses_an_unknown_sweep(capsys):
    with pytest.raises(SystemExit):
        tuning.main(["colour"])
    assert "available: loss" in capsys.readouterr().err


def test_faithfulness_prints_every_loss(capsys):
    assert faithfulness.main(["--counts", "2-2", "--pairs", "1", "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    assert all(f"| {loss} |" in printed for loss in ("l1", "d2d", "margin"))


def test_picture_writes_before_and_after(tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "PROMPTS", ("a photo of two apples",))
    assert picture.main(["--out", str(tmp_path / "sheet.png")]) == 0
    assert (tmp_path / "sheet.png").stat().st_size > 1000
