"""The README's table holds what `countgen report` finds in the committed records."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from countgen.app.cli import main
from countgen.benchmarks.evaluation.statistics import wilson_interval
from tests.docs.documents import ROOT


def rate(hits: int, images: int) -> str:
    """Return a percentage with its interval, as the report prints it."""
    low, high = wilson_interval(hits, images)
    return f"{100 * hits / images:.0f} [{100 * low:.0f}, {100 * high:.0f}]"


def cells(method: Mapping[str, Any], judge: str) -> dict[str, str]:
    """Return what the table says of a method."""
    right, kept = method["scores"][judge], method["preservation"]
    return {
        "right": rate(right["right"], right["images"]),
        "right, and the same image": rate(kept["same_and_right"], kept["images"]),
    }


def test_the_readme_shows_what_the_report_finds(capsys: pytest.CaptureFixture[str]) -> None:
    table = (ROOT / "README.md").read_text("utf-8").split("<!-- results: benchmarks/results/study -->\n")[1]
    head, _, *rows = (line.strip("| ").split(" | ") for line in table.split("\n\n")[0].splitlines())
    assert main(["report", str(ROOT / "benchmarks" / "results" / "study"), "--json"]) == 0
    sections = {section["suite"]: section for section in json.loads(capsys.readouterr().out)["sections"]}
    suite = ""
    for row in rows:
        if named := re.match(r"`([\w-]+)`", row[0]):
            suite = named[1]
            (images,) = map(int, re.findall(r"n = (\d+)", row[0]))
        else:
            row = ["", *row]  # a further row of the same suite
        section = sections[suite]
        assert {method["scores"][section["judges"][0]]["images"] for method in section["methods"]} == {images}
        measured = {method["name"]: cells(method, section["judges"][0])[row[1]] for method in section["methods"]}
        assert row[2:] == [measured.get(name, "-") for name in head[2:]]
    assert set(sections) == {"study-words", "study-beyond", "study-two-classes"}
    assert len(rows) == 4
