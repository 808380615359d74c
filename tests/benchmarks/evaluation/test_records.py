import lzma
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from countgen.benchmarks.evaluation.records import Record, RunFolderError, read_records, read_run
from countgen.benchmarks.evaluation.report.reported_run import read_reported_run
from countgen.files.json_lines import LineFile, RecordWriteError
from tests.benchmarks.evaluation.made_records import record, write_run
from tests.faults.crash_consistency import file_size_limit

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


def test_the_latest_record_of_a_case_counts_and_the_earlier_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with LineFile(tmp_path, path.name) as file:
        for one in (FAILED, DONE, replace(DONE, key=FAILED.key)):
            file.append(one.to_line())
    assert read_records(path) == [replace(DONE, key=FAILED.key), DONE]
    assert [b'"failed"' in line for line in path.read_bytes().splitlines()] == [True, False, False]


def test_a_last_record_torn_at_any_byte_is_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # this machine keeps its power, and hundreds of them take seconds
    earlier, line = DONE.to_line() + FAILED.to_line(), replace(DONE, key="2" * 32).to_line()
    path = tmp_path / "torn.jsonl"
    for length in range(len(line) + 1):
        path.write_bytes(earlier + line[:length])
        with LineFile(path.parent, path.name) as file:
            file.append(line)
        assert read_records(path) == [DONE, FAILED, replace(DONE, key="2" * 32)]
        assert path.read_bytes().startswith(earlier)


LINE = DONE.to_line().strip()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{}", "required field `key`"),
        (b"[" * 200_000, "Expected `object`"),
        (LINE.replace(b'"schema":1', b'"schema":9'), "schema: Invalid enum value 9"),
        (LINE.replace(b'"seed":3', b'"seed":-1'), "seed: Expected `int` >= 0"),
        (LINE.replace(b'"seed":3', b'"more":3'), "unknown field `more`"),
        (LINE.replace(b'"level":"medium"', b'"level":"\\udcff"'), "surrogate"),
        (LINE.replace(b'"apple":6', b'"apple":0'), "targets"),
        (LINE.replace(b'"critic_counts":[6,2]', b'"critic_counts":[6]'), "critic has 1 counts for 2 objects"),
        (LINE.replace(b'"density":[6,2]', b'"density":[]'), "density has 0 counts for 2 objects"),
    ],
)
def test_a_damaged_record_is_one_line_that_names_file_line_and_field(line: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(DONE.to_line() + line + b"\n" + FAILED.to_line())
    with pytest.raises(RunFolderError, match=rf"records\.jsonl, line 2 is not a record: .*{reason}") as error:
        read_records(path)
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 500 + len(str(tmp_path))


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"settings\.json is missing"):
        read_run(tmp_path)
    for text in ("{", '{"methods": [["a"]]}', '{"max_seconds": [1]}', "7"):
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


@pytest.mark.parametrize("name", ["settings.json", "records.jsonl", "labels.jsonl", "judgements.jsonl"])
def test_a_pipe_in_a_run_folder_is_an_error_and_not_waited_for(name: str, tmp_path: Path) -> None:
    write_run(tmp_path / "run", [record()])
    (tmp_path / "run" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "run" / name)
    with pytest.raises(ValueError, match=f"{name} is a pipe"):
        read_reported_run([tmp_path / "run"])


def test_packed_records_unpack_to_a_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("countgen.files.json_lines.MAX_BYTES", 1_000_000)
    (tmp_path / "records.jsonl.xz").write_bytes(lzma.compress(bytes(2_000_000)))
    with pytest.raises(RunFolderError, match="unpacks to more than 1000000 bytes"):
        read_records(tmp_path / "records.jsonl.xz")
