import json
import lzma
import os
import random
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from countgen.benchmarks.evaluation.image_files import is_complete
from countgen.benchmarks.evaluation.json_lines import split_torn
from countgen.benchmarks.evaluation.labels import read_labels
from countgen.benchmarks.evaluation.records import (
    Record,
    RecordFile,
    RecordWriteError,
    RunFolderError,
    read_records,
    read_run,
    table,
    to_line,
)
from countgen.prompts import Target
from tests.faults.crash_consistency import file_size_limit, tear, time_opening

DONE = Record(
    schema=1,
    key="0" * 32,
    suite="a",
    level="medium",
    prompt="six äpfel and\ntwo dogs",
    targets=(Target("apple", 6), Target("dog", 2)),
    seed=3,
    backbone="miniature",
    method="auto",
    critics=("miniature-yolo",),
    judges=("miniature-fcos", "density"),
    status="done",
    error=None,
    critic_counts=(6, 2),
    judge_counts={"miniature-fcos": (6, 1), "density": (6, 2)},
    confidence={"miniature-fcos": 0.75, "density": 0.0},
    boxes={"miniature-fcos": ((1, 2, 30, 40), (5, 6, 7, 8)), "density": ()},
    confirmed=True,
    trace=((4, 0.5, False), (12, 1.25, True)),
    evaluations=12,
    seconds=1.25,
    peak_bytes=1000,
    image="images/a.png",
    before="images/a-before.png",
)
FAILED = replace(
    DONE, key="1" * 32, status="failed", error="ValueError: \u2028 no", judge_counts={}, boxes={}, trace=()
)


def written(folder: Path, *records: Record) -> Path:
    path = folder / "records.jsonl"
    with RecordFile(path) as file:
        for record in records:
            file.append(record)
    return path


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = written(tmp_path, DONE, FAILED)
    assert read_records(path) == [DONE, FAILED]
    assert len(path.read_bytes().splitlines()) == 2


def test_an_error_about_a_file_name_that_is_no_text_can_be_written(tmp_path: Path) -> None:
    odd = replace(DONE, error="no file '\udcff.png'")
    assert read_records(written(tmp_path, odd)) == [odd]


def test_the_latest_record_of_a_case_counts_and_the_earlier_one_stays(tmp_path: Path) -> None:
    path = written(tmp_path, FAILED, DONE, replace(DONE, key=FAILED.key))
    assert read_records(path) == [replace(DONE, key=FAILED.key), DONE]
    assert b'"failed"' in path.read_bytes()


def test_a_last_record_torn_at_any_byte_is_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # this machine keeps its power, and hundreds of them take seconds
    good, cuts = tear([DONE, FAILED, replace(DONE, key="2" * 32)], tmp_path)
    assert good == cuts == len(to_line(DONE)) + 1


def test_readers_leave_out_a_record_that_is_being_written(tmp_path: Path) -> None:
    path = written(tmp_path, DONE, FAILED)
    content = path.read_bytes()
    for length in range(len(to_line(DONE)), len(content) - 1):
        whole, _ = split_torn(content[:length])
        assert whole == to_line(DONE)
    # It lacks its newline only: nothing is lost.
    assert split_torn(content[:-1]) == (content, b"")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\0\0\0\0", "line 2"),
        (b"{}", "no field 'schema'"),
        (b"[1]", "line 2"),
        (to_line(DONE).strip().replace(b'"schema":1', b'"schema":9'), "it has schema 9"),
        (to_line(DONE).strip().replace(b'"seed":3,', b""), "seed"),
    ],
)
def test_a_damaged_line_is_named(line: bytes, reason: str, tmp_path: Path) -> None:
    path = written(tmp_path, DONE)
    path.write_bytes(to_line(DONE) + line + b"\n" + to_line(FAILED))
    with pytest.raises(RunFolderError, match=reason):
        read_records(path)


WRONG_TYPES: dict[str, tuple[object, ...]] = {
    **dict.fromkeys(("key", "suite", "level", "prompt", "backbone", "method", "status"), (7, None, ["a"])),
    **dict.fromkeys(("error", "image", "before"), (7, ["a"], {})),
    **dict.fromkeys(("critics", "judges"), ("abc", [7], [["a"]], {}, None)),
    **dict.fromkeys(("seed", "evaluations", "peak_bytes"), ("7", 1.5, True, 10**400, [1])),
    "targets": ({}, [], {"apple": "7", "dog": 1}, {"apple": [7]}, {"apple": 1.5}, None),
    "critic_counts": ("62", [6, "2"], [6], [6, 2, 1], [True, 2], None),
    "judge_counts": ([], {"density": "62"}, {"density": [6]}, {"density": [6, None]}, {"density": []}),
    "confidence": ([], {"density": "high"}, {"density": [1]}),
    "boxes": ([], {"density": 7}, {"density": [[1, 2, 3]]}, {"density": [[1, 2, 3, "4"]]}, {"density": ["abcd"]}),
    "confirmed": (1, "true", None),
    "trace": ("abc", [1], [[1, 2]], [["1", 2.0, True]], [[1, 2.0, 1]], {}),
    "seconds": ("1", None, [1.0]),
    "truncated": (0, "no"),
    **dict.fromkeys(("objects_kept", "background_change", "structural_similarity"), ("1", True, [1.0])),
    "schema": (None, [1], "1"),
}


def test_a_field_of_another_type_is_one_clear_line(subtests: pytest.Subtests, tmp_path: Path) -> None:
    for field, value in [(name, one) for name, all_ in WRONG_TYPES.items() for one in all_]:
        with subtests.test(field=field, value=value):
            document = json.loads(to_line(DONE)) | {field: value}
            (tmp_path / "records.jsonl").write_text(json.dumps(document) + "\n" + "{}")
            with pytest.raises(RunFolderError, match=r"records\.jsonl, line 1 is no record of schema 1: ") as error:
                read_records(tmp_path / "records.jsonl")
            assert len(str(error.value).splitlines()) == 1
            assert len(str(error.value)) < 500 + len(str(tmp_path))


@pytest.mark.parametrize("line", [b"[" * 200_000, b'{"schema":' * 100_000, b"NaN", b"1e999"])
def test_json_that_no_record_holds_is_one_clear_line(line: bytes, tmp_path: Path) -> None:
    path = written(tmp_path, DONE)
    path.write_bytes(to_line(DONE) + line + b"\n" + to_line(FAILED))
    with pytest.raises(RunFolderError, match="line 2 is no record"):
        read_records(path)
    path.write_bytes(to_line(DONE) + line)  # as if it were still being written
    assert read_records(path) == [DONE]


WRONG_SETTINGS = [
    {"methods": 7},
    {"methods": [["a"]]},
    {"max_evaluations": "many"},
    {"max_seconds": [1]},
    {"backbones": "a"},
    [],
    7,
]


def test_settings_of_another_type_are_one_clear_line(subtests: pytest.Subtests, tmp_path: Path) -> None:
    for settings in WRONG_SETTINGS:
        with subtests.test(settings=settings):
            (tmp_path / "settings.json").write_text(json.dumps(settings))
            with pytest.raises(RunFolderError, match=r"settings\.json is damaged: it"):
                read_run(tmp_path)


def test_random_damage_is_refused_by_name_or_stays_in_one_record(tmp_path: Path) -> None:
    rng = random.Random(0)
    content = to_line(DONE) + to_line(FAILED)
    path = tmp_path / "records.jsonl"
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            records = read_records(path)
        except RunFolderError:
            refused += 1
        else:
            assert DONE in records or FAILED in records
    assert refused > 100


def test_a_full_disk_is_a_clear_error_and_leaves_earlier_records_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with RecordFile(path) as file:
        file.append(DONE)
        with (
            file_size_limit(path.stat().st_size + 100),
            pytest.raises(RecordWriteError, match="what is finished is kept"),
        ):
            file.append(FAILED)
        assert path.read_bytes() == to_line(DONE)
        file.append(FAILED)
    assert read_records(path) == [DONE, FAILED]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.getrlimit(resource.RLIMIT_FSIZE)[1]


def test_pipes_in_a_run_folder_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "settings.json")
    with pytest.raises(RunFolderError, match=r"settings\.json is a pipe"):
        read_run(tmp_path)
    (tmp_path / "settings.json").unlink()
    (tmp_path / "settings.json").write_text("{}")
    os.mkfifo(tmp_path / "records.jsonl")
    with pytest.raises(RunFolderError, match=r"records\.jsonl is a pipe"):
        read_run(tmp_path)
    os.mkfifo(tmp_path / "labels.jsonl")
    with pytest.raises(ValueError, match=r"labels\.jsonl is a pipe"):
        read_labels(tmp_path)
    os.mkfifo(tmp_path / "a.png")
    assert not is_complete(tmp_path / "a.png")


def test_packed_records_unpack_to_a_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("countgen.benchmarks.evaluation.records.MAX_UNPACKED_BYTES", 1_000_000)
    (tmp_path / "records.jsonl.xz").write_bytes(lzma.compress(bytes(2_000_000)))
    with pytest.raises(RunFolderError, match="unpacks to more than 1000000 bytes"):
        read_records(tmp_path / "records.jsonl.xz")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"it has no settings\.json"):
        read_run(tmp_path)
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(RunFolderError, match="damaged"):
        read_run(tmp_path)
    (tmp_path / "settings.json").write_text('{"suite": "a"}')
    assert read_run(tmp_path) == ({"suite": "a"}, [])


def test_the_table_knows_neither_the_clock_nor_the_order() -> None:
    later = replace(DONE, seconds=99.0, peak_bytes=None, trace=((4, 50.0, False), (12, 99.0, True)))
    assert table([DONE, FAILED]) == table([FAILED, later])
    assert table([DONE]) != table([replace(DONE, critic_counts=(6, 3))])
    assert json.loads(table([DONE]))["trace"] == [[4, False], [12, True]]


def test_many_records_open(tmp_path: Path) -> None:
    assert time_opening(DONE, 1000, tmp_path)[1] < 1
