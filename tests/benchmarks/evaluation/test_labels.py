"""Human labels: blind and shuffled, and nothing that was saved is ever lost."""

from __future__ import annotations

import csv
import json
import resource
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from countgen.app.cli import main
from countgen.benchmarks.evaluation.json_lines import LineFile, RecordWriteError
from countgen.benchmarks.evaluation.label_import import read_sheet
from countgen.benchmarks.evaluation.label_sheet import write_sheet
from countgen.benchmarks.evaluation.labels import (
    LABELS,
    Label,
    questions,
    read_labels,
    save_label,
    unlabelled,
)
from countgen.benchmarks.evaluation.metrics import with_labels
from countgen.benchmarks.evaluation.records import (
    RECORDS,
    SETTINGS,
    Record,
    RunFolderError,
    read_run,
    to_line,
)


def record(number: int, status: str = "done", wanted: dict[str, int] | None = None) -> Record:
    done, wanted = status == "done", wanted or {"apple": 7}
    key = f"{number:04x}"
    return Record(
        key=key,
        suite="mine",
        level="medium",
        prompt="seven apples",
        wanted=wanted,
        seed=number,
        backbone="miniature",
        method="auto" if number % 2 else "plain",
        critics=("c",),
        judges=("j",),
        status=status,
        error=None if done else "no memory",
        critic_counts=(7,) * len(wanted) if done else (),
        judge_counts={"j": (7,) * len(wanted)} if done else {},
        confidence={"j": 0.9} if done else {},
        boxes={"j": ()} if done else {},
        confirmed=done,
        trace=((1, 0.5, True),) if done else (),
        evaluations=1,
        seconds=0.5,
        peak_bytes=None,
        image=f"images/{key}.png" if done else None,
        before=f"images/{key}-before.png" if done else None,
    )


def write_run(folder: Path, records: Sequence[Record]) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / SETTINGS).write_text("{}")
    with LineFile(folder, RECORDS) as file:
        for one in records:
            file.append(to_line(one))
            if one.image:
                Image.new("RGB", (8, 8), "red").save(folder / one.image)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    pair = record(8, wanted={"apple": 3, "dog": 2})
    return write_run(tmp_path / "run", [*(record(number) for number in range(8)), pair, record(9, "failed")])


def keys(labels: Sequence[Label]) -> set[str]:
    return {label.key for label in labels}


def test_only_finished_pictures_are_asked_about(run: Path) -> None:
    asked = questions(run, "anna")
    assert {question.key for question in asked} == {f"{number:04x}" for number in range(9)}
    assert all(question.image.is_file() for question in asked)


def test_the_order_is_shuffled_differs_between_people_and_stays(run: Path) -> None:
    order = [question.key for question in questions(run, "anna")]
    assert order != sorted(order)
    assert order != [question.key for question in questions(run, "ben")]
    assert order != [question.key for question in questions(run, "anna", seed=1)]
    with LineFile(run, RECORDS) as file:
        file.append(to_line(record(10)))
        file.append(to_line(record(11)))
    longer = [question.key for question in questions(run, "anna")]
    assert len(longer) == len(order) + 2
    assert [key for key in longer if key in order] == order


def test_a_question_says_nothing_about_what_was_asked_for(run: Path) -> None:
    for question in questions(run, "anna"):
        assert set(vars(question)) == {"key", "image", "object_names"}


def test_labelling_goes_through_all_pictures_once(run: Path) -> None:
    seen = []
    while left := unlabelled(run, "anna"):
        seen.append(left[0].key)
        save_label(run, left[0].key, " anna ", [5] * len(left[0].object_names))
    assert sorted(seen) == [f"{number:04x}" for number in range(9)]
    assert keys(read_labels(run)) == set(seen)
    assert len(unlabelled(run, "ben")) == 9


def test_the_latest_label_of_a_person_counts_and_the_first_stays_in_the_file(run: Path) -> None:
    for count in (5, 6):
        save_label(run, "0001", "anna", [count])
    save_label(run, "0001", "ben", [7])
    assert read_labels(run) == [Label("0001", "anna", (6,)), Label("0001", "ben", (7,))]
    assert len((run / LABELS).read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("key", "labeller", "counts", "said"),
    [
        ("0001", "", [7], "1 to 60 printable"),
        ("0001", "a\nb", [7], "1 to 60 printable"),
        ("0001", "a" * 61, [7], "1 to 60 printable"),
        ("ffff", "anna", [7], "no finished image 'ffff'"),
        ("0009", "anna", [7], "no finished image '0009'"),
        ("0001", "anna", [7, 2], "expected 1 whole numbers"),
        ("0008", "anna", [7], "one for each of apple, dog"),
        ("0001", "anna", [-1], "from 0 to 10000"),
        ("0001", "anna", [True], "from 0 to 10000"),
        ("0001", "anna", [10_001], "from 0 to 10000"),
    ],
)
def test_a_bad_label_is_refused_and_nothing_is_written(
    run: Path, key: str, labeller: str, counts: list[int], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        save_label(run, key, labeller, counts)
    assert not (run / LABELS).exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="is not a run"):
        unlabelled(tmp_path, "anna")


def test_a_label_torn_at_any_byte_costs_that_label_alone(run: Path) -> None:
    first, second = Label("0001", "anna", (5,)), Label("0002", "änne", (6,))
    save_label(run, first.key, first.labeller, first.counts)
    kept = (run / LABELS).read_bytes()
    save_label(run, second.key, second.labeller, second.counts)
    both = (run / LABELS).read_bytes()
    for end in range(len(kept), len(both)):
        (run / LABELS).write_bytes(both[:end])
        # A line that lacks only its newline is whole.
        saved = [first, second] if end == len(both) - 1 else [first]
        assert read_labels(run) == saved
        third = save_label(run, "0003", "ben", [7])
        assert read_labels(run) == [*saved, third]


@pytest.mark.parametrize(
    "wrong",
    [
        *({"key": 7}, {"key": ["a"]}, {"labeller": None}, {"labeller": "\x1b[2J"}, {"counts": "7"}, {"counts": [1.5]}),
        *({"counts": [-1]}, {"counts": [10**400]}, {"counts": {"apple": 7}}, {"schema": [1]}),
    ],
)
def test_a_label_of_another_type_is_told_with_its_line(run: Path, wrong: dict[str, object]) -> None:
    label = {"schema": 1, "key": "a", "labeller": "anna", "counts": [7]}
    (run / "labels.jsonl").write_text(json.dumps(label) + "\n" + json.dumps(label | wrong) + "\n" + "[" * 10**5)
    with pytest.raises(ValueError, match=r"labels.jsonl, line 2 is not a label"):
        read_labels(run)


def _label_all(run: Path, labeller: str) -> None:
    for question in unlabelled(run, labeller):
        save_label(run, question.key, labeller, [1] * len(question.object_names))


def test_people_who_label_at_the_same_time_lose_nothing(run: Path) -> None:
    # Every label opens the file anew, so that threads exclude one another as processes do.
    with ThreadPoolExecutor(8) as people:
        list(people.map(partial(_label_all, run), "abcdefgh"))
    assert len(read_labels(run)) == 8 * 9


def test_a_full_disk_loses_nothing_that_was_saved(run: Path) -> None:
    first = save_label(run, "0001", "anna", [5])
    size = (run / LABELS).stat().st_size
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[1]))
    try:
        with pytest.raises(RecordWriteError, match="give the same command again"):
            save_label(run, "0002", "anna", [5])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert (run / LABELS).stat().st_size == size
    second = save_label(run, "0002", "anna", [5])
    assert read_labels(run) == [first, second]


def fill(sheet: Path, count: str = "7") -> list[list[str]]:
    with sheet.open(newline="") as file:
        header, *rows = csv.reader(file)
    return [header, *([image, name, count] for image, name, _ in rows)]


def store(sheet: Path, rows: list[list[str]], delimiter: str = ",") -> None:
    with sheet.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def test_a_sheet_shows_neither_targets_nor_methods_nor_counts(run: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    assert write_sheet(run, sheet, "anna") == 9
    with sheet.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["image", "object", "count"]
    assert len(rows) == 10
    assert all((run / image).is_file() and name in ("apple", "dog") and not count for image, name, count in rows)
    assert [row[0] for row in rows] != sorted(row[0] for row in rows)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_filled_sheet_becomes_labels_once(run: Path, tmp_path: Path, delimiter: str) -> None:
    sheet = tmp_path / "sheet.csv"
    write_sheet(run, sheet, "anna")
    store(sheet, fill(sheet), delimiter)
    assert [read_sheet(run, sheet, "anna").saved for _ in range(2)] == [9, 0]
    assert {label.key: label.counts for label in read_labels(run)}["0008"] == (7, 7)
    with pytest.raises(ValueError, match="nothing is left"):
        write_sheet(run, tmp_path / "more.csv", "anna")


def test_what_was_not_counted_is_left_for_later(run: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    write_sheet(run, sheet, "anna")
    rows = fill(sheet)
    rows[[row[1] for row in rows].index("dog")][2] = ""
    rows[[row[0] for row in rows].index("images/0001.png")][2] = ""
    store(sheet, [*rows, ["", "", ""]])
    assert read_sheet(run, sheet, "anna").saved == 7
    assert keys(read_labels(run)) == {f"{number:04x}" for number in range(8)} - {"0001"}
    assert {question.key for question in unlabelled(run, "anna")} == {"0001", "0008"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (["images/0002.png", "apple", "seven"], "line 2: 'seven' is not a whole number"),
        (["images/0002.png", "apple", "-1"], "line 2: '-1' is not a whole number"),
        (["images/0002.png", "apple", "٧"], "line 2: '٧' is not a whole number"),
        (["images/0002.png", "apple", "99999999"], "line 2: '99999999' is not a whole number up to 10000"),
        (["images/0009.png", "apple", "7"], "line 2: .* has no finished image 'images/0009.png'"),
        (["images/0002.png", "pear", "7"], "line 2: images/0002.png has the objects apple, not 'pear'"),
        (["images/0001.png", "apple", "6"], "line 3: images/0001.png has two rows for 'apple'"),
    ],
)
def test_a_bad_row_is_told_with_its_line_and_saves_nothing_of_the_sheet(
    run: Path, tmp_path: Path, row: list[str], said: str
) -> None:
    saved = save_label(run, "0003", "anna", [5])
    sheet = tmp_path / "sheet.csv"
    store(sheet, [["image", "object", "count"], row, ["images/0001.png", "apple", "7"]])
    with pytest.raises(ValueError, match=f"{said}.*Nothing of this sheet was saved"):
        read_sheet(run, sheet, "anna")
    assert read_labels(run) == [saved]


def test_a_run_that_came_without_pictures_is_not_called_labelled(tmp_path: Path) -> None:
    (tmp_path / SETTINGS).write_text("{}")
    with pytest.raises(ValueError, match="has no image to count"):
        write_sheet(tmp_path, tmp_path / "sheet.csv", "anna")
    assert not (tmp_path / "sheet.csv").exists()


def test_what_cannot_be_counted_is_an_answer_of_its_own(run: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    write_sheet(run, sheet, "anna")
    rows = fill(sheet)
    rows[[row[1] for row in rows].index("dog")][2] = "-"
    store(sheet, rows)
    read_sheet(run, sheet, "anna")
    assert {label.key: label.counts for label in read_labels(run)}["0008"] == (7, None)
    assert unlabelled(run, "anna") == []
    _, records = read_run(run)
    labelled = {record.key: record for record in with_labels(records, read_labels(run))}
    assert "human anna" in labelled["0008"].judges
    assert "human anna" not in labelled["0008"].judge_counts
    assert labelled["0001"].judge_counts["human anna"] == (7,)


def test_a_sheet_with_another_header_is_refused(run: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("picture,number\n")
    with pytest.raises(ValueError, match="line 1: expected the columns image, object, count"):
        read_sheet(run, sheet, "anna")
    sheet.write_bytes(b"image,object,count\n\xff,,\n")
    with pytest.raises(ValueError, match="UTF-8"):
        read_sheet(run, sheet, "anna")


def test_the_command_writes_reads_and_tells(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.csv"
    assert main(["label", str(run), "--out", str(sheet), "--labeller", "anna", "--number", "4"]) == 0
    assert main(["label", str(run), "--out", str(sheet), "--labeller", "anna"]) == 2  # never over a sheet
    store(sheet, fill(sheet))
    assert main(["label", str(run), "--read", str(sheet), "--labeller", "anna"]) == 0
    assert "4 labels saved" in capsys.readouterr().out
    assert main(["label", str(run)]) == 0
    assert capsys.readouterr().out == "9 finished images\n  anna: 4 labelled\n"
    assert main(["label", str(run), "--read", str(sheet)]) == 2
    assert "--labeller NAME" in capsys.readouterr().err
    assert main(["label", str(tmp_path)]) == 2


def test_labels_are_lines_of_json_with_a_schema(run: Path) -> None:
    save_label(run, "0001", "anna", [5])
    assert json.loads((run / LABELS).read_text()) == {"schema": 1, "key": "0001", "labeller": "anna", "counts": [5]}
