"""The README's table holds what `countgen report` computes from the committed records."""

import json
import re
from pathlib import Path

import pytest

from countgen.app.cli import main
from countgen.benchmarks.evaluation.statistics import wilson_interval

ROOT = Path(__file__).parents[2]


def rate(hits: int, images: int) -> str:
    """Return a percentage with its interval, as the report prints it."""
    low, high = wilson_interval(hits, images)
    return f"{100 * hits / images:.0f} [{100 * low:.0f}, {100 * high:.0f}]"


def test_the_readme_shows_what_the_report_computes(capsys: pytest.CaptureFixture[str]) -> None:
    table = (ROOT / "README.md").read_text("utf-8").split("<!-- results: benchmarks/results/study -->\n")[1]
    head, _, *rows = (line.strip("| ").split(" | ") for line in table.split("\n\n")[0].splitlines())
    assert main(["report", str(ROOT / "benchmarks" / "results" / "study"), "--json"]) == 0
    sections = {section["suite"]: section for section in json.loads(capsys.readouterr().out)["sections"]}
    measured = {}
    for suite, section in sections.items():
        for method in section["methods"]:
            score, kept = method["scores"][section["judges"][0]], method["preservation"]
            measured[suite, "right", method["name"]] = rate(score["right"], score["images"])
            same = rate(kept["same_and_right"], kept["images"])
            measured[suite, "right, and the same image", method["name"]] = same
    suite = ""
    for row in rows:
        if named := re.match(r"`([\w-]+)`", row[0]):
            suite = named[1]
        else:
            row = ["", *row]  # a further row of the same suite
        assert row[2:] == [measured.get((suite, row[1], name), "-") for name in head[2:]]
    assert set(sections) == {"study-words", "study-beyond", "study-two-classes"}
    assert len(rows) == 4
