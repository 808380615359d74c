"""Human labels: blind and shuffled, and nothing that was saved is ever lost."""

from __future__ import annotations

import csv
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from countgen.app.cli import main
from countgen.benchmarks.evaluation.json_lines import LineFile, RecordWriteError
from countgen.benchmarks.evaluation.label_tables import import_labels, write_sheet
from countgen.benchmarks.evaluation.labels import LABELS, questions, read_labels, save_label, unlabelled
from countgen.benchmarks.evaluation.metrics import with_labels
from countgen.benchmarks.evaluation.records import RECORDS, SETTINGS, read_run
from tests.benchmarks.evaluation.made_records import record, write_run
from tests.faults.crash_consistency import file_size_limit

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


def test_questions_are_blind_and_about_finished_images_in_an_order_that_stays(run: Path) -> None:
    asked = questions(run, "anna")
    order = [question.key for question in asked]
    assert set(order) == {*KEYS, PAIR}
    assert all(question.image.is_file() for question in asked)
    assert set(vars(asked[0])) == {"key", "image", "object_names", "listed_as"}
    assert order != sorted(order)
    assert order != [question.key for question in questions(run, "ben")]
    assert order != [question.key for question in questions(run, "anna", seed=1)]
    with LineFile(run, RECORDS) as file:
        for seed in (10, 11):
            file.append(record(seed=seed, image=f"images/{seed}.png").to_line())
    longer = [question.key for question in questions(run, "anna")]
    assert len(longer) == len(order) + 2
    assert [key for key in longer if key in order] == order


def test_each_image_is_labelled_once_and_the_latest_label_of_a_person_is_valid(run: Path) -> None:
    labelled = []
    while left := unlabelled(run, "anna"):
        labelled.append(left[0].key)
        save_label(run, left[0].key, " anna ", [5] * len(left[0].object_names))
    assert sorted(labelled) == sorted([*KEYS, PAIR])
    assert len(unlabelled(run, "ben")) == 9
    save_label(run, KEYS[1], "anna", [6])
    save_label(run, KEYS[1], "ben", [7])
    given = {(label.labeller, label.counts) for label in read_labels(run) if label.key == KEYS[1]}
    assert given == {("anna", (6,)), ("ben", (7,))}
    lines = (run / LABELS).read_text().splitlines()
    assert len(lines) == 11
    assert json.loads(lines[-1]) == {"schema": 1, "key": KEYS[1], "labeller": "ben", "counts": [7]}


BAD_LABELS = [
    *((KEYS[1], name, [7], "1 to 60 printable") for name in ("", "a\nb", "a" * 61)),
    *((key, "anna", [7], f"no finished image '{key}'") for key in ("ffff", FAILED)),
    (KEYS[1], "anna", [7, 2], "expected 1 whole numbers"),
    (PAIR, "anna", [7], "one for each of apple, dog"),
    *((KEYS[1], "anna", [count], "from 0 to 10000") for count in (-1, True, 10_001)),
]
BAD_ROWS = [
    *((IMAGES[2], "apple", text, f"line 2: '{text}' is not a whole number") for text in ("seven", "-1", "٧")),
    (IMAGES[2], "apple", "99999999", "line 2: '99999999' is not a whole number up to 10000"),
    (f"images/{FAILED}.png", "apple", "7", f"line 2: .* has no finished image 'images/{FAILED}.png'"),
    (IMAGES[2], "pear", "7", f"line 2: {IMAGES[2]} has the objects apple, not 'pear'"),
    (IMAGES[1], "apple", "6", f"line 3: {IMAGES[1]} has two rows for 'apple'"),
]
DAMAGE = (
    *({"key": 7}, {"key": ["a"]}, {"labeller": None}, {"labeller": "\x1b[2J"}, {"counts": "7"}, {"counts": [1.5]}),
    *({"counts": [-1]}, {"counts": [10**400]}, {"counts": {"apple": 7}}, {"schema": [1]}),
)


def test_a_bad_label_or_row_is_an_error_and_nothing_is_written(
    run: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for key, labeller, counts, helps in BAD_LABELS:
        with subtests.test(helps=helps), pytest.raises(ValueError, match=helps):
            save_label(run, key, labeller, counts)
    for *row, helps in BAD_ROWS:
        store(tmp_path / "sheet.csv", [["image", "object", "count"], row, [IMAGES[1], "apple", "7"]])
        with subtests.test(helps=helps), pytest.raises(ValueError, match=f"{helps}.*Nothing of this sheet was saved"):
            import_labels(run, tmp_path / "sheet.csv", "anna", is_sheet=True)
    assert not (run / LABELS).exists()


def test_a_damaged_label_is_named_with_its_line(run: Path, subtests: pytest.Subtests) -> None:
    label = {"schema": 1, "key": "a", "labeller": "anna", "counts": [7]}
    for wrong in DAMAGE:
        (run / LABELS).write_text(json.dumps(label) + "\n" + json.dumps(label | wrong) + "\n" + "[" * 10**5)
        with subtests.test(wrong=str(wrong)[:50]), pytest.raises(ValueError, match=r"line 2 is not a label"):
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
    first = save_label(run, KEYS[1], "anna", [5])
    content = (run / LABELS).read_bytes()
    with file_size_limit(len(content) + 20), pytest.raises(RecordWriteError, match="give the same command again"):
        save_label(run, KEYS[2], "anna", [5])
    assert (run / LABELS).read_bytes() == content
    second = save_label(run, KEYS[2], "anna", [5])
    assert read_labels(run) == [first, second]


def fill(sheet: Path, count: str = "7") -> list[list[str]]:
    with sheet.open(newline="") as file:
        header, *rows = csv.reader(file)
    return [header, *([image, name, count] for image, name, _ in rows)]


def store(sheet: Path, rows: list[list[str]], delimiter: str = ",") -> None:
    with sheet.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_blind_sheet_that_is_filled_in_becomes_labels_once(run: Path, tmp_path: Path, delimiter: str) -> None:
    sheet = tmp_path / "sheet.csv"
    assert write_sheet(run, sheet, "anna") == 9
    header, *rows = fill(sheet, "")
    assert header == ["image", "object", "count"]
    assert len(rows) == 10
    assert all((run / image).is_file() and name in ("apple", "dog") for image, name, _ in rows)
    store(sheet, fill(sheet), delimiter)
    assert [import_labels(run, sheet, "anna", is_sheet=True).saved for _ in range(2)] == [9, 0]
    assert {label.key: label.counts for label in read_labels(run)}[PAIR] == (7, 7)
    with pytest.raises(ValueError, match="nothing is left"):
        write_sheet(run, tmp_path / "more.csv", "anna")


def test_empty_cells_are_left_for_later_and_a_dash_is_an_answer(run: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    write_sheet(run, sheet, "anna")
    rows = fill(sheet)
    dog = [row[1] for row in rows].index("dog")
    rows[dog][2] = ""
    rows[[row[0] for row in rows].index(f"images/{KEYS[1]}.png")][2] = ""
    store(sheet, [*rows, ["", "", ""]])
    import_labels(run, sheet, "anna", is_sheet=True)
    assert {question.key for question in unlabelled(run, "anna")} == {KEYS[1], PAIR}
    rows[dog][2] = "-"
    store(sheet, rows)
    assert import_labels(run, sheet, "anna", is_sheet=True).saved == 1
    labelled = {record.key: record for record in with_labels(read_run(run)[1], read_labels(run))}
    assert "human anna" in labelled[PAIR].judges
    assert "human anna" not in labelled[PAIR].judge_counts
    assert labelled[KEYS[2]].judge_counts["human anna"] == (7,)


def test_a_run_without_images_is_not_called_labelled(tmp_path: Path) -> None:
    (tmp_path / SETTINGS).write_text("{}")
    with pytest.raises(ValueError, match="has no image to count"):
        write_sheet(tmp_path, tmp_path / "sheet.csv", "anna")
    assert not (tmp_path / "sheet.csv").exists()


def test_the_command_writes_reads_and_counts(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.csv"
    assert main(["label", str(run), "--out", str(sheet), "--labeller", "anna", "--number", "4"]) == 0
    assert main(["label", str(run), "--out", str(sheet), "--labeller", "anna"]) == 2  # never over a sheet
    store(sheet, fill(sheet))
    assert main(["label", str(run), "--read", str(sheet), "--labeller", "anna"]) == 0
    assert "4 labels saved" in capsys.readouterr().out
    assert main(["label", str(run)]) == 0
    assert capsys.readouterr().out == "9 finished images\n  anna: 4 labelled\n"
