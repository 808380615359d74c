"""The registered study runs what its plan says, and its tables count what the records hold."""

import json
from pathlib import Path

import pytest

from benchmarks.evaluation.suites import load
from benchmarks.studies import beyond_seeds
from benchmarks.studies.beyond_seeds import HYPOTHESES, PARTS, SUITES, Hypothesis, cases, compared, detectable
from countgen.prompts import parse
from tests.benchmarks.evaluation.made_records import record

ROOT = Path(__file__).parents[3]
KEPT = {"objects_kept": 1.0, "background_change": 0.0, "structural_similarity": 1.0}


@pytest.mark.parametrize("name", PARTS)
def test_the_committed_suites_are_the_cases_of_the_plan(name):
    rows = [json.loads(line) for line in (ROOT / SUITES / f"{name}.jsonl").read_text("utf-8").splitlines()]
    assert rows == [*cases(PARTS[name])]
    assert len(rows) == len({row["tags"]["seed"] for row in rows}) == PARTS[name].each * len(PARTS[name].totals)
    for prompt in load(ROOT / SUITES / f"{name}.jsonl"):
        assert parse(prompt.prompt) == prompt.targets


def test_no_two_parts_share_a_seed():
    seeds = [row["tags"]["seed"] for part in PARTS.values() for row in cases(part)]
    assert len(seeds) == len(set(seeds))


def test_the_plan_holds_what_the_module_prints(capsys):
    plan = (ROOT / "docs/study-plan.md").read_text("utf-8")
    beyond_seeds.commands()
    assert capsys.readouterr().out in plan
    beyond_seeds.sizes()
    assert capsys.readouterr().out in plan


def test_every_hypothesis_is_about_cases_that_are_run():
    for test in HYPOTHESES:
        assert {*test.totals} <= {*PARTS[test.part].totals}
        assert {test.first, test.second} <= {*PARTS[test.part].methods}


def test_a_hypothesis_pairs_its_cases_and_asks_for_the_same_image_where_it_says_so():
    records = [record("edit", seed, 4, 4, **KEPT) for seed in range(3)]
    records += [record("search", seed, 4, 4, **KEPT | {"objects_kept": 0.5}) for seed in range(3)]
    records += [record("edit", 9, 1, 2, **KEPT), record("search", 9, 2, 2, **KEPT)]  # another total
    same = Hypothesis("words", range(4, 13), "edit", "search", same=True)
    right = Hypothesis("words", range(4, 13), "edit", "search")
    assert [(found.won, found.lost) for found in (compared(same, records), compared(right, records))] == [
        (3, 0),
        (0, 0),
    ]


def test_a_part_without_records_is_left_empty(monkeypatch):
    found = [record("edit", seed, 4, 4, **KEPT) for seed in range(3)]
    monkeypatch.setattr(beyond_seeds, "read", lambda: {"words": found})
    head, _, row = beyond_seeds.summary(["edit"]).splitlines()
    assert "1-5 (n = 3)" in head
    assert "13-15 (n = 0)" in head
    assert "100" in row
    assert compared(HYPOTHESES[0], found).cases == 0


def test_more_cases_show_smaller_differences():
    assert detectable(300, 0) < detectable(50, 0) < detectable(50, 0.1)
