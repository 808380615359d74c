"""Human labels: blind and shuffled, from sheets and tables, and nothing that was saved is ever lost."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from countgen.app.cli import main
from countgen.benchmarks.evaluation.judgements import of_people, with_judgements
from countgen.benchmarks.evaluation.label_tables import Imported, import_labels, write_sheet
from countgen.benchmarks.evaluation.labels import LABELS, Label, questions, read_labels, save_labels
from countgen.benchmarks.evaluation.records import RECORDS, read_run
from countgen.files.json_lines import LineFile
from tests.benchmarks.evaluation.made_records import record, write_run

pytestmark = pytest.mark.core

KEYS = [f"plain-3-{seed}" for seed in range(8)]
PAIR = "pair"
FAILED = "plain-3-9"
IMAGES = [f"images/{key}.png" for key in KEYS]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    two = {"wanted": {"apple": 3, "dog": 2}, "critic_counts": (3, 2), "judge_counts": {"detector": (3, 2)}}
    pair = record(seed=8, key=PAIR, **two)
    return write_run(tmp_path / "run", [*(record(seed=seed) for seed in range(8)), pair, record(seed=9, counted=None)])


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    return tmp_path / "sheet.csv"


def fill(sheet: Path, count: str = "7") -> list[list[str]]:
    with sheet.open(newline="") as file:
        header, *rows = csv.reader(file)
    return [header, *([image, name, count] for image, name, _ in rows)]


def store(sheet: Path, rows: list[list[str]]) -> None:
    with sheet.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=";").writerows(rows)


def test_questions_are_blind_and_about_finished_images_in_an_order_that_stays(run: Path) -> None:
    def order(labeller: str, seed: int = 0) -> list[str]:
        return [question.key for question in questions(run, labeller, seed)]

    before = order("anna")
    assert set(before) == {*KEYS, PAIR}
    assert set(vars(questions(run)[0])) == {"key", "image", "object_names", "listed_as"}
    assert before not in [sorted(before), order("ben"), order("anna", seed=1)]
    with LineFile(run, RECORDS) as file:
        file.append(record(seed=10, image="images/10.png").to_line())
    assert [key for key in order("anna") if key in before] == before != order("anna")


def test_the_latest_label_of_a_person_is_valid_and_earlier_ones_stay(run: Path) -> None:
    save_labels(run, [Label(KEYS[1], "anna", (5,))])
    save_labels(run, [Label(KEYS[1], "anna", (6,)), Label(KEYS[1], "ben", (7,))])
    assert {(label.labeller, label.counts) for label in read_labels(run)} == {("anna", (6,)), ("ben", (7,))}
    lines = (run / LABELS).read_text().splitlines()
    assert len(lines) == 3
    assert json.loads(lines[-1]) == {"schema": 1, "key": KEYS[1], "labeller": "ben", "counts": [7]}


def test_a_blind_sheet_that_is_filled_in_becomes_labels_once(run: Path, sheet: Path) -> None:
    assert write_sheet(run, sheet, "anna") == 9
    header, *rows = fill(sheet, "")
    assert header == ["image", "object", "count"]
    assert len(rows) == 10
    assert all((run / image).is_file() and name in ("apple", "dog") for image, name, _ in rows)
    store(sheet, fill(sheet))
    assert [import_labels(run, sheet, "anna", is_sheet=True).saved for _ in range(2)] == [9, 0]
    assert {label.key: label.counts for label in read_labels(run)}[PAIR] == (7, 7)
    with pytest.raises(ValueError, match="nothing is left"):
        write_sheet(run, sheet, "anna")


def test_empty_cells_are_left_for_later_and_a_dash_is_an_answer(run: Path, sheet: Path) -> None:
    write_sheet(run, sheet, "anna")
    rows = fill(sheet)
    dog = [row[1] for row in rows].index("dog")
    later = [row[0] for row in rows].index(IMAGES[1])
    rows[dog][2] = rows[later][2] = ""
    store(sheet, [*rows, ["", "", ""]])
    assert import_labels(run, sheet, "anna", is_sheet=True).saved == 7
    assert not {KEYS[1], PAIR} & {label.key for label in read_labels(run)}
    rows[dog][2] = "-"
    store(sheet, rows)
    assert import_labels(run, sheet, "anna", is_sheet=True).saved == 1
    labelled = {record.key: record for record in with_judgements(read_run(run)[1], of_people(read_labels(run)))}
    assert "human anna" in labelled[PAIR].judges
    assert "human anna" not in labelled[PAIR].judge_counts
    assert labelled[KEYS[2]].judge_counts["human anna"] == (7,)


@pytest.mark.parametrize(
    ("image", "name", "count", "helps"),
    [
        *((IMAGES[2], "apple", text, f"line 2: '{text}' is not a whole number") for text in ("-1", "٧", "10001")),
        (f"images/{FAILED}.png", "apple", "7", f"line 2: .* has no finished image 'images/{FAILED}.png'"),
        (IMAGES[2], "pear", "7", f"line 2: {IMAGES[2]} has the objects apple, not 'pear'"),
        (IMAGES[1], "apple", "6", f"line 3: {IMAGES[1]} has two rows for 'apple'"),
    ],
)
def test_a_bad_row_of_a_sheet_is_named_and_nothing_is_written(
    run: Path, sheet: Path, image: str, name: str, count: str, helps: str
) -> None:
    store(sheet, [["image", "object", "count"], [image, name, count], [IMAGES[1], "apple", "7"]])
    with pytest.raises(ValueError, match=f"{helps}.*Nothing of this sheet was saved"):
        import_labels(run, sheet, "anna", is_sheet=True)
    assert not (run / LABELS).exists()


def test_the_command_writes_reads_and_counts(run: Path, sheet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["label", str(run), "--out", str(sheet), "--labeller", "anna", "--number", "4"]) == 0
    assert main(["label", str(run), "--out", str(sheet), "--labeller", "anna"]) == 2  # never over a sheet
    assert main(["label", str(run), "--out", str(sheet), "--labeller", "a\nb"]) == 2
    store(sheet, fill(sheet))
    assert main(["label", str(run), "--read", str(sheet), "--labeller", "anna"]) == 0
    assert "4 labels saved" in capsys.readouterr().out
    assert main(["label", str(run)]) == 0
    assert capsys.readouterr().out == "9 finished images\n  anna: 4 labelled\n"


FIRST, SECOND, THIRD = (f"{number:032x}" for number in (1, 2, 3))


@pytest.fixture
def given_run(tmp_path: Path) -> Path:
    """A run of given images, listed as GeckoNum lists its own; two objects are asked for in the second prompt."""
    asked = {FIRST: {"dog": 2}, SECOND: {"dog": 2, "cat": 3}, THIRD: {"dog": 4}}
    records = [
        record(key=key, wanted=wanted, listed_as=f"geckonum_0000{n}_0.png", critic_counts=(), judge_counts={})
        for n, (key, wanted) in enumerate(asked.items())
    ]
    return write_run(tmp_path / "given", records)


def test_geckonums_label_is_the_whole_number_of_more_than_half_of_its_annotators(given_run: Path, sheet: Path) -> None:
    dogs, cats = "How many dogs are in the image?", "How many cats are in the image?"
    answers = [
        *(("geckonum_00000_0", dogs, answer) for answer in ("2", "2", "10+")),
        *(("geckonum_00001_0", dogs, answer) for answer in ("2", "2.0", "2")),
        *(("geckonum_00001_0", cats, answer) for answer in ("4", "4", "3")),
        *(("geckonum_00002_0", dogs, answer) for answer in ("3", "4", "2-3")),
        ("geckonum_00009_0", dogs, "7"),
    ]
    header = "image_id,model,question_id,question,prompt,annot_id,raw_answer,answer\n"
    sheet.write_text(header + "".join(f"{image},muse_a,0,{asked},p,0,{a},{a}\n" for image, asked, a in answers))
    for saved, known in ((2, 0), (0, 2)):
        assert import_labels(given_run, sheet, "gecko") == Imported(saved, known, ("geckonum_00009_0",), 2, 1)
        assert set(read_labels(given_run)) == {Label(FIRST, "gecko", (2,)), Label(SECOND, "gecko", (2, 4))}


def test_a_table_names_its_labellers_and_the_option_those_of_the_other_rows(given_run: Path, sheet: Path) -> None:
    sheet.write_text(
        "image,object,count,labeller\n"
        "geckonum_00000_0.png,dogs,2,ann\n"
        "geckonum_00000_0.png,dog,3,bob\n"
        f"images/{SECOND}.png,dog,2,ann\n"
        f"images/{SECOND}.png,cat,3,ann\n"
        "geckonum_00002_0.png,dog,-,bob\n"
    )
    assert main(["label", str(given_run), "--import", str(sheet), "--json"]) == 0
    with sheet.open("a") as file:
        file.write("geckonum_00002_0.png,dog,cannot be counted,\ngeckonum_00002_0.png,dog,5,\n")
    assert import_labels(given_run, sheet, "carl") == Imported(0, 4, (), 1, 1)
    assert set(read_labels(given_run)) == {
        *(Label(FIRST, "ann", (2,)), Label(FIRST, "bob", (3,)), Label(SECOND, "ann", (2, 3))),
        Label(THIRD, "bob", (None,)),
    }


def test_images_are_known_by_their_paths_in_the_list(tmp_path: Path, sheet: Path) -> None:
    listed = {FIRST: "a/0000.png", SECOND: "b/0000.png", THIRD: "c/0001.png"}
    records = [record(key=key, seed=seed, listed_as=path) for seed, (key, path) in enumerate(listed.items())]
    run = write_run(tmp_path / "run", records)
    sheet.write_text("image,object,count\n0001.png,apple,4\n0000.png,apple,3\n")
    with pytest.raises(ValueError, match=r"came with the name '0000.png'; give their paths in the list, such as a/0"):
        import_labels(run, sheet, "ann")
    assert read_labels(run) == []
    rows = f"0001.png,apple,4\n./b/0000.png,apple,3\nimages/{FIRST}.png,apple,7\nx/0001.png,apple,9\n"
    sheet.write_text("image,object,count\n" + rows)
    assert import_labels(run, sheet, "ann") == Imported(3, 0, ("x/0001.png",), 0, 0)
    assert {label.key: label.counts for label in read_labels(run)} == {FIRST: (7,), SECOND: (3,), THIRD: (4,)}
