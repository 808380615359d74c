"""What the documents say of the studies is what their records say."""

import re
from pathlib import Path

import pytest

from benchmarks.evaluation.report.findings import findings
from benchmarks.evaluation.report.reported_run import read_reported_run
from benchmarks.studies.document_tables import DOCUMENTS, table, with_tables
from tests.benchmarks.evaluation.made_records import record, write_run

ROOT = Path(__file__).parents[3]


RUNS = ("beyond-seeds", "benchmarks/results/study-pixart", "beyond-seeds", "learned")


@pytest.mark.parametrize(("document", "run"), list(zip(DOCUMENTS, RUNS, strict=True)))
def test_the_tables_in_the_documents_are_those_of_the_records(document, run, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = document.read_text("utf-8")
    assert re.search(rf"<!-- study: {run}( \S+)? -->", text)
    assert with_tables(text) == text


def test_the_curve_ends_where_the_records_say(monkeypatch):
    monkeypatch.chdir(ROOT)
    (section,) = findings(read_reported_run(["benchmarks/results/study"]))
    drawn = Path("docs/study-by-evaluations.svg").read_text("utf-8")
    for method in section.methods:
        right = method.scores[section.judges[0]].accuracy
        assert re.search(rf">{re.escape(method.name)}  {100 * right:.0f} %( of \d+)?<", drawn), method.name


def test_a_method_without_cases_has_empty_cells(tmp_path):
    records = [record("plain", seed, asked, asked) for seed in range(2) for asked in (3, 12)]
    records += [record("plain+token", seed, 4, 3) for seed in range(2)]
    run = read_reported_run([write_run(tmp_path / "run", records, methods=["plain", "plain+token"])])
    lines = table(run, findings(run)[0]).splitlines()
    assert lines[0].startswith("| method | 1-5 (n = 2) | 11-15 (n = 2) | all, by detector (n = 4)")
    assert lines[3] == "| plain+token | 0 [0, 66] | - | 0 [0, 66], n = 2 | 0 [0, 66], n = 2 |"
