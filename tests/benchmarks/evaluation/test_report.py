"""A report says what the records say, whatever they hold: tables, page and JSON."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from markupsafe import escape
from msgspec.structs import replace
from PIL import Image

from countgen.app.cli import main
from countgen.benchmarks.evaluation.judgements import JUDGEMENTS, Judgement
from countgen.benchmarks.evaluation.labels import Label, save_labels
from countgen.benchmarks.evaluation.records import RECORDS, Record, read_run
from countgen.benchmarks.evaluation.report.cards import chosen, disagreements
from countgen.benchmarks.evaluation.report.findings import findings
from countgen.benchmarks.evaluation.report.page import plots
from countgen.benchmarks.evaluation.report.reported_run import read_reported_run
from countgen.benchmarks.evaluation.report.table import MARK, Table, as_text
from countgen.images import save_png
from tests.benchmarks.evaluation.made_records import record, table_run, write_run

EVIL = '<script>alert("7")</script> & <b>bold</b> "quoted" \'apples\''


@pytest.fixture
def reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return what `countgen report` prints about records."""

    def report(records: list[Record], *words: str) -> str:
        folder = write_run(tmp_path / f"run-{len(list(tmp_path.iterdir()))}", records)
        assert main(["report", str(folder), *words]) == 0
        return capsys.readouterr().out

    return report


def test_tables_and_json_say_what_the_records_say_in_any_order(made_run: Path, reported: Callable[..., str]) -> None:
    records = read_run(made_run)[1]
    tables = reported(records, "--all")
    for row in (
        *(r"right, % +38 +75", r"failed \(wrong\) +0 +1", "ValueError: made to fail +1", "won +3"),
        *(f"critic {MARK}", f"{MARK} counted by a critic", r"counter +100 % of 15\b"),
    ):
        assert re.search(row, tables)
    assert "CompBench" not in tables
    document = reported(records, "--json")
    (section,) = json.loads(document, parse_constant=pytest.fail)["sections"]
    plain, auto = section["methods"]
    assert (plain["name"], auto["name"]) == ("plain", "auto")
    assert auto["scores"]["detector"]["accuracy"] == 0.75
    assert auto["counts"]["3"]["failed"] == 1
    assert auto["levels"]["easy"]["failed"] == 1
    assert section["versus"]["detector"][0]["comparison"]["duel"]["won"] == 3
    assert section["agreements"]["detector & counter"]["kappa"] == 1
    assert reported(records[::-1], "--json") == document


def test_rows_that_only_some_runs_have(reported: Callable[..., str]) -> None:
    numeracy = [record(seed=seed, counted=2 + seed % 2, suite="numeracy_val") for seed in range(4)]
    assert re.search(r"T2I-CompBench score +0\.75\b", reported(numeracy, "--all"))
    kept = {"objects_kept": 0.9, "background_change": 0.05, "structural_similarity": 0.8}
    edited = [record("plain", 0), record("edit", 0, **kept), record("edit", 1, counted=2, **kept)]
    assert re.search(r"right and the same image, % +- +50\n", reported(edited, "--all"))
    cut = [record(method, seed, truncated=seed < wide) for method, wide in (("a", 2), ("b", 0)) for seed in range(4)]
    assert re.search(r"prompts cut +2 +0\n", reported(cut, "--all"))
    people = reported([record(asked=4)], "--all")
    assert re.search(r"\n4 +43 \[39, 47\] +27 \[24, 32\]", people), (
        "GeckoNum's people found 215 of 500 of DALL-E 3's right"
    )
    assert "right by people" not in reported([record(asked=13)], "--all")
    steered = reported([record("auto", seed, critics=("critic", "counter")) for seed in range(3)], "--all")
    assert f"counter {MARK}" in steered
    assert "judged by detector\n" in steered


def test_tables_are_printed_for_spreadsheets_papers_and_pages(reported: Callable[..., str]) -> None:
    records = [record(method, seed, 3 + seed % 2) for method in ("plain", "a_b|c&d") for seed in range(4)]
    header, *rows = csv.reader(reported(records, "--tables", "csv").splitlines())
    assert header == ["made on miniature: All images, judged by detector", "plain", "a_b|c&d"]
    assert {row[0]: row[1:] for row in rows if row}["right, %"] == ["50", "50"]
    latex = reported(records, "--tables", "latex", "--all").splitlines()
    assert latex.count(r"\begin{tabular}{lrr}") >= 5
    assert r" & plain & a\_b|c\&d \\" in latex
    assert r"\quad 95 \% interval & [15, 85] & [15, 85] \\" in latex
    markdown = reported(records, "--tables", "markdown").splitlines()
    assert r"|  | plain | a_b\|c&d |" in markdown
    assert "| right, % | 50 | 50 |" in markdown


def test_columns_that_do_not_fit_follow_below_and_long_names_are_folded() -> None:
    table = Table("Title", ("", "first", "second"), (("row", "1", "2"),), "a note")
    assert as_text(table, 40).splitlines() == ["Title", "     first  second", "row      1       2", "a note"]
    below = ["Title", "     first", "row      1", "", "     second", "row       2", "a note"]
    assert as_text(table, 12).splitlines() == below
    reason = "RuntimeError: " + "something long and twisted " * 9
    text = as_text(Table("Failed", ("", "images"), ((reason, "12"), ("short", "3"))), 40)
    assert max(map(len, text.splitlines())) <= 40
    assert re.search(r"^RuntimeError: .* 12$", text, re.MULTILINE)


def test_methods_are_compared_by_every_judge_that_did_not_steer(tmp_path: Path) -> None:
    # The first judge sees no difference, the second one does.
    counts = {"detector": (3,), "counter": (2,)}
    records = [record("search", seed) for seed in range(6)]
    records += [record("auto", seed, judge_counts=counts) for seed in range(6)]
    (section,) = findings(read_reported_run([write_run(tmp_path / "run", records)]))
    duels = {judge: versus.comparison.duel for judge, (versus,) in section.versus.items()}
    found = {judge: (duel.won, duel.lost) for judge, duel in duels.items()}
    assert found == {"detector": (0, 0), "counter": (0, 6), "unanimous": (0, 6)}


def test_the_page_loads_nothing_runs_no_foreign_script_and_describes_its_images(tmp_path: Path) -> None:
    records = [record("plain", seed, 3, prompt=EVIL, suite=EVIL, judges=("detector", EVIL)) for seed in range(2)]
    records += [record("plain", 2, None, prompt=EVIL, error=EVIL, suite=EVIL)]
    out = tmp_path / "out"
    assert main(["report", str(write_run(tmp_path / "run", records)), "--out", str(out)]) == 0
    names = {
        f"{plot}.{end}"
        for plot in ("accuracy-by-count", "accuracy-by-evaluations", "accuracy-by-seconds", "reliability")
        for end in ("svg", "pdf", "png")
    }
    assert {path.name for path in out.iterdir()} == names | {"report.html"}
    page = (out / "report.html").read_text()
    assert page.count("<script") == 1
    assert not re.search(r"<(link|iframe|object|base|b>bold)|<[^>]* on[a-z]+=", page)
    assert str(escape(EVIL)) in page
    assert all('alt="' in image for image in re.findall(r"<img [^>]*>", page))
    assert set(re.findall(r' (?:src|href)="(\w+:)', page)) == {"data:"}
    assert "http" not in re.sub(r"data:[^\"]*", "", page).replace("http-equiv", "")


def test_images_outside_the_run_damaged_or_missing_are_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, page = table_run(tmp_path / "run"), tmp_path / "report.html"
    save_png(Image.new("RGB", (8, 8)), tmp_path / "secret.png")
    _, records = read_run(run)
    (run / "images" / f"{records[1].key}.png").write_bytes(b"no picture")
    outside = replace(records[0], image="../secret.png", before=str(tmp_path / "secret.png"))
    (run / RECORDS).write_bytes(b"".join(one.to_line() for one in (outside, *records[1:])))
    main(["report", str(run), "--out", str(page)])
    assert capsys.readouterr().err.startswith(f"missing or incomplete images in {run}: 3, ")
    assert page.read_text().count("image missing") == 2
    shutil.rmtree(run / "images")
    main(["report", str(run), "--out", str(page)])
    assert "not beside its records" in page.read_text()


def test_people_are_judges_of_what_they_labelled_and_stray_labels_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = table_run(tmp_path / "run")
    labels = {record("plain", 0).key: 3, record("plain", 1).key: 2, record("plain", 2).key: 3, "0" * 32: 3}
    save_labels(run, [Label(key, "ann", (count,)) for key, count in labels.items()])
    (run / JUDGEMENTS).write_bytes(Judgement("0" * 32, "late", (3,), 0.5, ()).to_line())
    assert main(["report", str(run), "--json"]) == 0
    output = capsys.readouterr()
    assert output.err == f"labels or judgements of images that {run} does not have, left out: 2\n"
    section = json.loads(output.out)["sections"][0]
    assert section["judges"] == ["detector", "counter", "unanimous", "critic", "human ann"]
    assert section["agreements"]["detector & human ann"]["counts"] == 3
    assert section["methods"][0]["scores"]["human ann"]["right"] == 2
    assert "human ann" not in section["methods"][1]["scores"]


def test_shards_are_one_run_and_backbones_and_suites_have_sections(tmp_path: Path) -> None:
    records = [record("auto", seed) for seed in range(6)]
    shards = [write_run(tmp_path / f"{k}", records[k::2], shard=f"{k + 1}/2") for k in range(2)]
    assert len(read_reported_run(shards).records) == 6
    other = write_run(tmp_path / "other", records, max_evaluations=10)
    with pytest.raises(ValueError, match="max_evaluations differ"):
        read_reported_run([shards[0], other])
    mixed = [record("auto", 0), record("auto", 0, key="x", backbone="sdxl"), record("auto", 0, key="y", suite="b")]
    run = read_reported_run([write_run(tmp_path / "mixed", mixed)])
    sections = findings(run)
    expected = {("miniature", "made"), ("sdxl", "made"), ("miniature", "b")}
    assert {(section.backbone, section.suite) for section in sections} == expected
    assert "sdxl-made-accuracy-by-count" in plots(run, sections)


def test_a_page_shows_a_case_with_all_its_methods() -> None:
    records = [record(m, seed, asked=n, counted=n) for n in range(1, 6) for seed in range(9) for m in ("plain", "auto")]
    shown = chosen(records, 20)
    plain, auto = ({(r.prompt, r.seed) for r in shown if r.method == name} for name in ("plain", "auto"))
    assert plain == auto
    assert len(plain) == 10
    assert {r.targets[0].target_count for r in shown} == {1, 2, 3, 4, 5}
    assert {r.key for r in chosen(records[::-1], 20)} == {r.key for r in shown}


def test_the_widest_disagreements_come_first_and_critics_have_no_part_in_them() -> None:
    near, far = (record(seed=n, judge_counts={"detector": (3,), "counter": (n,)}) for n in (4, 9))
    silent = record(seed=2, judge_counts={"detector": (3,)})
    equal, failed = record(seed=3, critic_counts=(9,)), record(seed=1, counted=None)
    assert disagreements([near, equal, failed, silent, far], 9) == [far, near, silent]
    assert disagreements([near, far], 1) == [far]
