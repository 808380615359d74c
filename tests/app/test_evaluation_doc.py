"""The tables of the evaluation guide match the suites and the prompt refinements."""

from __future__ import annotations

import re
from pathlib import Path

from countgen.benchmarks.evaluation.refinements import REFINEMENTS, refine
from countgen.benchmarks.evaluation.suites import Prompt, available, load
from countgen.prompts import Target

GUIDE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text("utf-8")


def test_the_table_of_suites_matches_the_suites() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+-style)` \| (\d+) \|", GUIDE, re.MULTILINE))
    assert {name for name in available() if name.endswith("-style")} == set(rows)
    assert {name: str(len(load(name))) for name in rows} == rows


def test_the_table_of_refinements_matches_the_prompts() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (seven apples.+) \|$", GUIDE, re.MULTILINE))
    assert set(rows) == set(REFINEMENTS)
    for name, said in rows.items():
        refined = refine(Prompt("seven apples", (Target("apple", 7),), "guide"), name).prompt
        assert refined.startswith(said.removesuffix(" ...").rstrip())
