"""The registered studies run what their plans say, and their tables count what the records hold."""

import json
from pathlib import Path

import pytest

from benchmarks.evaluation.suites import load
from benchmarks.studies import beyond_seeds, learned, learned_pixart
from benchmarks.studies.registered import SUITES, Hypothesis, Study, compared, detectable
from countgen.prompts import parse
from tests.benchmarks.evaluation.made_records import record

ROOT = Path(__file__).parents[3]
KEPT = {"objects_kept": 1.0, "background_change": 0.0, "structural_similarity": 1.0}


STUDIES = {
    beyond_seeds.STUDY: "study-plan.md",
    learned.STUDY: "study-plan-learned.md",
    learned_pixart.STUDY: "study-plan-learned.md",
}
PARTS = [(study, name) for study in STUDIES for name in study.parts]


@pytest.mark.parametrize(("study", "name"), PARTS, ids=lambda value: value.name if isinstance(value, Study) else value)
def test_the_committed_suites_are_the_cases_of_the_plan(study, name):
    rows = [json.loads(line) for line in (ROOT / SUITES / f"{name}.jsonl").read_text("utf-8").splitlines()]
    assert rows == [*study.cases(name)]
    part = study.parts[name]
    assert len(rows) == len({row["tags"]["seed"] for row in rows}) == part.each * len(part.totals)
    for prompt in load(ROOT / SUITES / f"{name}.jsonl"):
        assert parse(prompt.prompt) == prompt.targets


def test_no_two_parts_of_a_model_share_a_seed():
    seeds = [(study.parts[name].model, row["tags"]["seed"]) for study, name in PARTS for row in study.cases(name)]
    assert len(seeds) == len(set(seeds))


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_the_plan_holds_what_the_module_prints(study):
    plan = (ROOT / "docs" / STUDIES[study]).read_text("utf-8")
    assert study.commands() in plan
    assert study.sizes() in plan


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_every_hypothesis_is_about_cases_that_are_run(study):
    for test in study.hypotheses:
        assert {*test.totals} <= {*study.parts[test.part].totals}
        assert {test.first, test.second} <= {*study.parts[test.part].methods}


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
    monkeypatch.setattr(Study, "read", lambda study: {"words": found})
    head, _, row = beyond_seeds.summary(["edit"]).splitlines()
    assert "1-5 (n = 3)" in head
    assert "13-15 (n = 0)" in head
    assert "100" in row
    assert compared(beyond_seeds.STUDY.hypotheses[0], found).cases == 0


def test_more_cases_show_smaller_differences():
    level = 0.01
    assert detectable(300, 0, level) < detectable(50, 0, level) < detectable(50, 0.1, level)
