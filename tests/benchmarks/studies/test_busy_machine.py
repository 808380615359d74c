"""The table of evaluations beside busy processes."""

import json
from pathlib import Path

from benchmarks.studies.busy_machine import BUSY, RESULTS, SETTINGS, with_section

RESULT = {
    "cores": 2,
    "load": 0.25,
    "times": [
        {"busy": busy, "threads": name, "seconds": seconds, "cpu_seconds": 2 * seconds}
        for busy in BUSY
        for name in SETTINGS
        for seconds in (0.5, 1.0 + busy, 0.25)
    ],
}


def test_the_section_is_replaced_and_the_rest_of_the_document_stays() -> None:
    once = with_section("before\n<!-- busy machine -->\n<!-- end of busy machine -->\nafter\n", RESULT)
    assert once.startswith("before\n<!-- busy machine -->\n## A busy machine\n")
    assert once.endswith("<!-- end of busy machine -->\nafter\n")
    assert "| 2 | OMP_NUM_THREADS=1 | 3 | 0.50 | 3.00 | 1.00 |" in once
    assert "on 2 cores, at a load of 0.2 in the minute before" in once
    assert with_section(once, RESULT) == once


def test_the_document_shows_the_committed_times() -> None:
    document = Path("docs/results.md").read_text("utf-8")
    if RESULTS.exists():
        assert with_section(document, json.loads(RESULTS.read_text("utf-8"))) == document
    else:
        assert "<!-- busy machine -->\n<!-- end of busy machine -->" in document
