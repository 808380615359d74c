"""A writer that is killed at any moment leaves what was there before, or all of what it wrote."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from countgen.benchmarks.evaluation.json_lines import LineFile
from countgen.benchmarks.evaluation.records import read_run
from countgen.files.writing import write_atomically
from tests.benchmarks.evaluation.made_records import comparable


@pytest.mark.core
def test_a_death_at_any_file_operation_loses_nothing_that_is_finished() -> None:
    command = [sys.executable, "-m", "tests.faults.deaths"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    numbers = dict(re.findall(r"^(\w+): (\d+) deaths$", done.stdout, re.MULTILINE))
    assert numbers.keys() == {"file", "checkpoint", "run"}
    assert int(numbers["file"]) == int(numbers["checkpoint"]) >= 3  # opening the part, renaming, opening the folder
    assert int(numbers["run"]) >= 3 * int(numbers["file"])


@pytest.mark.core
def test_content_is_on_the_disk_before_its_name_and_a_record_before_the_next_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def noted(name: str) -> None:
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *arguments: calls.append(name) or original(*arguments))

    for name in ("fsync", "pwrite", "replace"):
        noted(name)
    write_atomically(b"new", tmp_path / "a")
    assert calls == ["fsync", "replace", "fsync"]  # of the content, and of the folder
    with LineFile(tmp_path, "records.jsonl") as file:
        file.append(b"{}\n")
    assert calls[3:] == ["pwrite", "fsync"]


@pytest.mark.nightly
def test_an_evaluation_that_is_killed_again_and_again_ends_equal(tmp_path: Path) -> None:
    suite = "--suite t2icountbench-miniature --limit 8 --methods plain --max-evaluations 1 --quiet --out".split()
    whole, killed = (tmp_path / name / "records.jsonl" for name in ("whole", "killed"))

    def evaluate(records: Path, until: int) -> int:
        """Kill the command as soon as there are so many records; return its exit code."""
        with subprocess.Popen([sys.executable, "-m", "countgen", "eval", *suite, records.parent]) as process:
            while process.poll() is None:
                if records.exists() and records.read_bytes().count(b"\n") >= until:
                    process.kill()
                time.sleep(0.01)
        return process.returncode

    assert evaluate(whole, until=9) in (0, 1)  # 1 is a count that was not reached
    assert [evaluate(killed, until) for until in (2, 5)] == [-signal.SIGKILL] * 2
    assert evaluate(killed, until=9) in (0, 1)
    assert killed.read_bytes().count(b"\n") == 8
    assert comparable(read_run(killed.parent)[1]) == comparable(read_run(whole.parent)[1])
    for path in (whole.parent / "images").iterdir():
        assert (killed.parent / "images" / path.name).read_bytes() == path.read_bytes()
