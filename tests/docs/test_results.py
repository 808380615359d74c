"""The tables of the README and the results hold what `countgen report` computes from the committed records."""

import json
from pathlib import Path

import pytest

from countgen.app.cli import main
from countgen.benchmarks.evaluation.statistics import wilson_interval

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("document", "num_rows"), [("README.md", 5), ("docs/results.md", 6)])
def test_a_table_shows_what_the_report_computes(
    document: str, num_rows: int, capsys: pytest.CaptureFixture[str]
) -> None:
    table = (ROOT / document).read_text("utf-8").split("<!-- results: benchmarks/results/study -->\n")[1]
    head, _, *rows = (line.strip("|").split("|") for line in table.split("\n\n")[0].splitlines())
    assert main(["report", str(ROOT / "benchmarks" / "results" / "study"), "--json"]) == 0
    sections = {section["suite"]: section for section in json.loads(capsys.readouterr().out)["sections"]}
    assert len(rows) == num_rows
    suite = ""
    for named, kind, *cells in rows:
        suite = named.partition(":")[0].strip(" `") or suite  # a further row of the same suite has no name
        methods = {method["name"]: method for method in sections[suite]["methods"]}
        for name, cell in zip(map(str.strip, head[2:]), map(str.strip, cells), strict=True):
            expected = "-"
            if name in methods:
                score, kept = methods[name]["scores"][sections[suite]["judges"][0]], methods[name]["preservation"]
                hits = score["right"] if kind.strip() == "right" else kept["same_and_right"]
                low, high = (100 * end for end in wilson_interval(hits, score["images"]))
                expected = f"{100 * hits / score['images']:.0f} [{low:.0f}, {high:.0f}]"
            assert cell == expected, (suite, kind, name)
