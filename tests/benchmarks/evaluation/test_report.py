"""A report says what the records say, whatever they hold, and keeps to itself."""

import json
import random
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from msgspec.structs import replace
from PIL import Image

from countgen.app.cli import main
from countgen.benchmarks.evaluation.judgements import JUDGEMENTS, Judgement
from countgen.benchmarks.evaluation.labels import save_label
from countgen.benchmarks.evaluation.metrics import scores
from countgen.benchmarks.evaluation.records import RECORDS, read_run, to_line
from countgen.benchmarks.evaluation.report.cards import chosen, disagreements, statuses
from countgen.benchmarks.evaluation.report.findings import findings
from countgen.benchmarks.evaluation.report.page import plots
from countgen.benchmarks.evaluation.report.reported_run import read_reported_run
from countgen.benchmarks.evaluation.report.table import MARK, Table, as_text
from countgen.images import save_png
from tests.benchmarks.evaluation.made_records import random_records, record, table_run, write_run

EVIL = '<script>alert("7")</script> & <b>bold</b> "quoted" \'apples\''


def test_a_run_of_t2i_compbench_has_its_own_score_beside_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [record(seed=seed, counted=2 + seed % 2, suite="numeracy_val") for seed in range(4)]
    assert main(["report", str(write_run(tmp_path / "numeracy", records))]) == 0
    assert re.search(r"T2I-CompBench score +0\.75\b", capsys.readouterr().out)
    assert main(["report", str(table_run(tmp_path / "ours"))]) == 0
    assert "CompBench" not in capsys.readouterr().out


class Page(HTMLParser):
    """Every start tag with its attributes, and the text between."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_tables_say_what_the_records_say(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["report", str(table_run(tmp_path / "run")), "--all"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"right, % +38 +75\n", printed)
    assert re.search(r"failed \(wrong\) +0 +1\n", printed)
    assert re.search(r"ValueError: made to fail +1\n", printed)
    assert re.search(r"won +3\n", printed)
    assert f"critic {MARK}" in printed
    assert f"{MARK} counted by a critic" in printed


def test_forty_columns_are_kept(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    run = str(table_run(tmp_path / "run"))
    main(["report", run])
    main(["report", run, "--all"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 44  # titles are whole


def test_columns_that_do_not_fit_follow_below():
    table = Table("Title", ("", "first", "second"), (("row", "1", "2"),), "a note")
    assert as_text(table, 40).splitlines() == ["Title", "     first  second", "row      1       2", "a note"]
    assert as_text(table, 12).splitlines() == [
        "Title",
        "     first",
        "row      1",
        "",
        "     second",
        "row       2",
        "a note",
    ]


def test_a_long_reason_of_a_failure_is_broken():
    reason = "RuntimeError: " + "something long and twisted " * 9 + "/a/path/" + "x" * 60
    for width in (40, 80):
        text = as_text(Table("Failed", ("", "images"), ((reason, "12"), ("short", "3"))), width)
        assert max(map(len, text.splitlines())) <= width
        assert re.search(r"^RuntimeError: .* 12$", text, re.MULTILINE)
        assert re.sub(r"\s+(12)?", "", reason) in re.sub(r"\s+(12\n)?", "", text)


def test_methods_are_compared_by_every_judge_that_steered_nothing(tmp_path, capsys):
    # The first judge sees no difference, the second one does; the critic is not asked.
    records = [record("search", seed, truncated=False) for seed in range(6)]
    records += [
        record("auto", seed, judge_counts={"detector": (3,), "counter": (2,)}, truncated=seed < 2) for seed in range(6)
    ]
    run = write_run(tmp_path / "run", records)
    (section,) = findings(read_reported_run([run]))
    assert {judge: (one.comparison.duel.won, one.comparison.duel.lost) for judge, (one,) in section.versus.items()} == {
        "detector": (0, 0),
        "counter": (0, 6),
        "unanimous": (0, 6),
    }
    main(["report", str(run), "--all"])
    printed = capsys.readouterr().out
    assert "Methods compared, judged by counter" in printed
    assert re.search(r"prompts cut +2 +0\n", printed)


def test_what_is_kept_of_the_plain_image_is_reported_where_it_was_measured(tmp_path, capsys):
    kept = {"objects_kept": 0.9, "background_change": 0.05, "structural_similarity": 0.8}
    records = [record("plain", 0), record("edit", 0, **kept), record("edit", 1, counted=2, **kept)]
    main(["report", str(write_run(tmp_path / "run", records)), "--all"])
    assert re.search(r"right and the same image, % +- +50\n", capsys.readouterr().out)
    main(["report", str(write_run(tmp_path / "older", records[:1])), "--all"])
    assert "same image" not in capsys.readouterr().out


def test_the_order_of_the_lines_changes_nothing(tmp_path, capsys):
    records = random_records(random.Random(4))
    assert records
    printed = []
    for name in ("one", "two"):
        random.Random(name).shuffle(records)
        main(
            ["report", str(write_run(tmp_path / name / "run", records)), "--out", str(tmp_path / name / "report.html")]
        )
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert (tmp_path / "one/report.html").read_bytes() == (tmp_path / "two/report.html").read_bytes()


def test_the_page_loads_nothing_and_runs_no_script_but_its_own(tmp_path):
    records = [record("plain", seed, 3, prompt=EVIL, suite=EVIL, judges=("detector", EVIL)) for seed in range(2)]
    records += [record("plain", 2, None, prompt=EVIL, error=EVIL, suite=EVIL)]
    records += [record("plain", 3, None, prompt="another", suite=EVIL, level=EVIL)]
    run = write_run(tmp_path / "run", records)
    assert main(["report", str(run), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.html").read_text()
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not [tag for tag, _ in page.tags if tag in ("link", "iframe", "object", "base")]
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert EVIL in page.text
    assert "http" not in re.sub(r"data:[^\"]*", "", text).replace("http-equiv", "")


def test_every_picture_in_the_page_has_words(tmp_path):
    main(["report", str(table_run(tmp_path / "run")), "--out", str(tmp_path / "report.html")])
    page = Page((tmp_path / "report.html").read_text())
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 3 + 15  # plots, and an image for every record that did not fail
    assert all(attributes["alt"] for attributes in pictures)
    assert "no image" in page.text


def test_a_folder_gets_the_plots_as_well(tmp_path):
    out = tmp_path / "deep" / "out"
    main(["report", str(table_run(tmp_path / "run")), "--out", str(out)])
    names = {
        f"accuracy-by-{plot}{suffix}" for plot in ("count", "evaluations", "seconds") for suffix in (".svg", ".png")
    }
    assert {path.name for path in out.iterdir()} == names | {"report.html"}


def test_pictures_outside_the_run_and_broken_ones_are_left_out(tmp_path):
    run = table_run(tmp_path / "run")
    save_png(Image.new("RGB", (8, 8)), tmp_path / "secret.png")
    _, records = read_run(run)
    (run / "images" / f"{records[1].key}.png").write_bytes(b"no picture")
    outside = replace(records[0], image="../secret.png", before=str(tmp_path / "secret.png"))
    (run / RECORDS).write_bytes(b"".join(map(to_line, [outside, *records[1:]])))
    loaded = read_reported_run([run])
    assert [loaded.image_path(one) for one in loaded.records if one.key == outside.key] == [None]
    main(["report", str(run), "--out", str(tmp_path / "report.html")])
    assert Page((tmp_path / "report.html").read_text()).text.count("image missing") == 2


def test_records_without_their_pictures_make_a_page_too(tmp_path):
    run = table_run(tmp_path / "run")
    shutil.rmtree(run / "images")
    main(["report", str(run), "--out", str(tmp_path / "report.html")])
    page = Page((tmp_path / "report.html").read_text())
    assert "not beside its records" in page.text
    assert "made to fail" in page.text


def test_labels_and_judgements_of_images_that_are_not_there_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = table_run(tmp_path / "run")
    key = read_run(run)[1][0].key
    save_label(run, key, "anna", [3])
    label = (run / "labels.jsonl").read_text()
    (run / "labels.jsonl").write_text(label + label.replace(key, "0" * 32))
    (run / JUDGEMENTS).write_bytes(Judgement("0" * 32, "late", (3,), 0.5, ()).to_line())
    assert main(["report", str(run)]) == 0
    printed = capsys.readouterr()
    assert printed.err == f"labels or judgements of images that {run} does not have, left out: 2\n"
    assert "judged by detector" in printed.out


def test_shards_are_one_run_and_other_runs_are_not(tmp_path, capsys):
    records = [record("auto", seed) for seed in range(6)]
    shards = [write_run(tmp_path / f"{k}", records[k::2], shard=f"{k + 1}/2") for k in range(2)]
    assert len(read_reported_run(shards).records) == 6
    other = write_run(tmp_path / "other", records, max_evaluations=10)
    assert main(["report", *map(str, shards), str(other)]) == 2
    assert "max_evaluations differ" in capsys.readouterr().err


def test_backbones_and_suites_have_sections_of_their_own(tmp_path):
    records = [record("auto", 0), record("auto", 0, key="x", backbone="sdxl"), record("auto", 0, key="y", suite="b")]
    run = read_reported_run([write_run(tmp_path / "run", records)])
    assert {(one.backbone, one.suite) for one in findings(run)} == {
        ("miniature", "made"),
        ("sdxl", "made"),
        ("miniature", "b"),
    }
    assert "sdxl-made-accuracy-by-count" in plots(run, findings(run))


def test_people_are_judges_of_what_they_labelled(tmp_path, capsys):
    run = table_run(tmp_path / "run")
    for seed in range(3):
        save_label(run, record("plain", seed).key, "ann", [3 - seed % 2])
    main(["report", str(run), "--json"])
    section = json.loads(capsys.readouterr().out)["sections"][0]
    assert section["judges"] == ["detector", "counter", "unanimous", "critic", "human ann"]
    assert section["agreements"]["detector & human ann"]["counts"] == 3
    assert section["methods"][0]["scores"]["human ann"]["right"] == 2
    assert "human ann" not in section["methods"][1]["scores"]


def test_a_judge_that_steered_is_marked_wherever_it_counts(tmp_path, capsys):
    records = [record("auto", seed, critics=("critic", "counter")) for seed in range(3)]
    main(["report", str(write_run(tmp_path / "run", records)), "--all"])
    printed = capsys.readouterr().out
    assert f"counter {MARK}" in printed
    assert "judged by detector\n" in printed


def test_random_runs_of_any_shape_are_reported(tmp_path, capsys):
    for number in range(12):
        records = random_records(random.Random(number))
        if records:
            run = write_run(tmp_path / str(number), records)
            assert main(["report", str(run), "--json"]) == 0
            found = json.loads(capsys.readouterr().out)["sections"][0]["methods"]
            right = {method["name"]: method["scores"]["detector"]["right"] for method in found}
            expected = {name: scores([r for r in records if r.method == name], "detector").right for name in right}
            assert right == expected


def test_a_case_is_shown_with_all_its_methods():
    records = [record(m, seed, asked=n, counted=n) for n in range(1, 6) for seed in range(9) for m in ("plain", "auto")]
    shown = chosen(records, 20)
    assert len(shown) == 20
    assert {(r.prompt, r.seed) for r in shown if r.method == "plain"} == {
        (r.prompt, r.seed) for r in shown if r.method == "auto"
    }
    assert {r.targets[0].target_count for r in shown} == {1, 2, 3, 4, 5}
    assert {r.key for r in chosen(records[::-1], 20)} == {r.key for r in shown}
    assert chosen(records, 0) == []


def test_statuses_name_what_a_reader_looks_for():
    assert statuses(record(counted=None), "detector") == ["failed"]
    assert statuses(record(), "detector") == ["right"]
    assert statuses(record(counted=5), "detector") == ["wrong", "confirmed, yet wrong"]
    assert statuses(record(judge_counts={"detector": (3,), "counter": (4,)}), "detector") == ["right", "judges differ"]
    silent = record(judge_counts={"detector": (3,)})
    assert statuses(silent, "counter")[0] == "no answer"
    assert statuses(silent, "nobody")[0] == "not judged"


def test_the_widest_disagreements_come_first_and_critics_have_no_part_in_them():
    near = record(seed=0, judge_counts={"detector": (3,), "counter": (4,)})
    far = record(seed=1, judge_counts={"detector": (3,), "counter": (9,)})
    silent = record(seed=2, judge_counts={"detector": (3,)})
    equal = record(seed=3, critic_counts=(9,))
    failed = record(seed=4, counted=None)
    assert disagreements([near, equal, failed, silent, far], 9) == [far, near, silent]
    assert disagreements([near, far], 1) == [far]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere"], "is not a run"),
        (["run", "--baseline", "magic"], "no method 'magic'"),
        (["run", "--images", "-1"], "greater than or equal to 0"),
        (["empty"], "no records yet"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(tmp_path, monkeypatch, capsys, arguments, reason):
    monkeypatch.chdir(tmp_path)
    table_run(Path("run"))
    write_run(Path("empty"), [])
    assert main(["report", *arguments]) == 2
    assert reason in capsys.readouterr().err
