"""The tables of the evaluation guide match the suites."""

from __future__ import annotations

import re
from pathlib import Path

from countgen.benchmarks.evaluation.suites import available, load

GUIDE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text("utf-8")


def test_the_table_of_suites_matches_the_suites() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+-style)` \| (\d+) \|", GUIDE, re.MULTILINE))
    assert {name for name in available() if name.endswith("-style")} == set(rows)
    assert {name: str(len(load(name))) for name in rows} == rows
