import json
import lzma
import os
import resource
from pathlib import Path

import pytest
from msgspec.structs import replace

from countgen.benchmarks.evaluation.image_files import is_complete
from countgen.benchmarks.evaluation.json_lines import LineFile, RecordWriteError
from countgen.benchmarks.evaluation.labels import read_labels
from countgen.benchmarks.evaluation.records import (
    Record,
    RunFolderError,
    read_records,
    read_run,
)
from tests.faults.crash_consistency import file_size_limit, tear

pytestmark = pytest.mark.core

DONE = Record(
    key="0" * 32,
    suite="a",
    level="medium",
    prompt="six äpfel and\ntwo dogs",
    wanted={"apple": 6, "dog": 2},
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
    with LineFile(path.parent, path.name) as file:
        for record in records:
            file.append(record.to_line())
    return path


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = written(tmp_path, DONE, FAILED)
    assert read_records(path) == [DONE, FAILED]
    assert len(path.read_bytes().splitlines()) == 2


def test_the_latest_record_of_a_case_counts_and_the_earlier_one_stays(tmp_path: Path) -> None:
    path = written(tmp_path, FAILED, DONE, replace(DONE, key=FAILED.key))
    assert read_records(path) == [replace(DONE, key=FAILED.key), DONE]
    assert b'"failed"' in path.read_bytes()


def test_a_last_record_torn_at_any_byte_is_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # this machine keeps its power, and hundreds of them take seconds
    good, cuts = tear([DONE, FAILED, replace(DONE, key="2" * 32)], tmp_path)
    assert good == cuts == len(DONE.to_line()) + 1


LINE = DONE.to_line().strip()
DAMAGED = [
    (b"\0\0\0\0", "malformed"),
    (b"{}", "required field `key`"),
    (b"[1]", "Expected `object`"),
    (b"NaN", "malformed"),
    (b"[" * 200_000, "Expected `object`"),
    (b'{"boxes":' + b'{"a":' * 200_000, "boxes"),
    (LINE.replace(b'"schema":1', b'"schema":9'), "schema: Invalid enum value 9"),
    (LINE.replace(b'"seed":3', b'"more":3'), "unknown field `more`"),
    (LINE.replace(b'"seconds":1.25', b'"seconds":1e999'), "seconds: Number out of range"),
    (LINE.replace(b'"seconds":1.25', b'"seconds":NaN'), "malformed"),
    (LINE.replace(b'"level":"medium"', b'"level":"\\udcff"'), "surrogate"),
    (LINE.replace(b"six", b"si\xff"), "Invalid UTF-8"),
]
WRONG: dict[str, tuple[object, ...]] = {
    **dict.fromkeys(("key", "level", "error", "image"), (7,)),
    **dict.fromkeys(("critics", "judges"), ("abc", [7], None)),
    **dict.fromkeys(("seed", "peak_bytes"), ("7", 1.5, True, -1, 10**400)),
    "targets": ([], {"apple": "7", "dog": 1}, {"apple": 0}, {" ": 1}),
    "critic_counts": ("62", [True, 2]),
    "judge_counts": ([], {"density": [6, None]}),
    "confidence": ({"density": "high"},),
    "boxes": ({"density": [[1, 2, 3]]}, {"density": [[1, 2, 3, "4"]]}),
    "trace": ([[1, 2]], [[1, 2.0, 1]]),
    "schema": (None, 2, "1"),
}
DAMAGED += [
    (json.dumps(json.loads(LINE) | {name: value}).encode(), name) for name, values in WRONG.items() for value in values
]
DAMAGED += [
    (json.dumps(json.loads(LINE) | {"critic_counts": [6]}).encode(), "critic has 1 counts for 2 objects"),
    (json.dumps(json.loads(LINE) | {"judge_counts": {"density": []}}).encode(), "density has 0 counts for 2 objects"),
]


def test_a_damaged_record_is_one_line_that_names_file_line_and_field(subtests: pytest.Subtests, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    for line, reason in DAMAGED:
        with subtests.test(line=line[:200]):
            path.write_bytes(DONE.to_line() + line + b"\n" + FAILED.to_line())
            with pytest.raises(RunFolderError, match=rf"records\.jsonl, line 2 is not a record: .*{reason}") as error:
                read_records(path)
            assert len(str(error.value).splitlines()) == 1
            assert len(str(error.value)) < 500 + len(str(tmp_path))


def test_a_damaged_last_line_is_taken_for_one_that_is_being_written(tmp_path: Path) -> None:
    for line in (b"[" * 200_000, b'{"schema":' * 100_000, b"NaN", b"1e999"):
        (tmp_path / "records.jsonl").write_bytes(DONE.to_line() + line)
        assert read_records(tmp_path / "records.jsonl") == [DONE]


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"settings\.json is missing"):
        read_run(tmp_path)
    for text in (
        "{",
        '{"methods": 7}',
        '{"methods": [["a"]]}',
        '{"max_evaluations": "many"}',
        '{"max_seconds": [1]}',
        "7",
    ):
        (tmp_path / "settings.json").write_text(text)
        with pytest.raises(RunFolderError, match=r"settings\.json is damaged: "):
            read_run(tmp_path)
    (tmp_path / "settings.json").write_text('{"suite": "a"}')
    assert read_run(tmp_path) == ({"suite": "a"}, [])


def test_a_full_disk_is_a_clear_error_and_leaves_earlier_records_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with LineFile(path.parent, path.name) as file:
        file.append(DONE.to_line())
        with (
            file_size_limit(path.stat().st_size + 100),
            pytest.raises(RecordWriteError, match="what is finished is kept"),
        ):
            file.append(FAILED.to_line())
        assert path.read_bytes() == DONE.to_line()
        file.append(FAILED.to_line())
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
    monkeypatch.setattr("countgen.benchmarks.evaluation.records.MAX_BYTES", 1_000_000)
    (tmp_path / "records.jsonl.xz").write_bytes(lzma.compress(bytes(2_000_000)))
    with pytest.raises(RunFolderError, match="unpacks to more than 1000000 bytes"):
        read_records(tmp_path / "records.jsonl.xz")
