"""Processes that write the same file or run at the same time."""

import subprocess
import sys
from pathlib import Path

import pytest

from countgen.benchmarks.evaluation.records import RunFolderError
from countgen.benchmarks.evaluation.run_folder import locked_run

pytestmark = pytest.mark.core

WRITE = """
import sys
from pathlib import Path
from countgen.files.writing import write_atomically

path, name = Path(sys.argv[1]), sys.argv[2].encode()
won = 0
for number in range(300):
    write_atomically(name * 10_000, path)
    assert path.read_bytes() in (b"a" * 10_000, b"b" * 10_000), "torn"
    try:
        write_atomically(name, path.with_name(f"new-{number}"), overwrite=False)
        won += 1
    except FileExistsError:
        pass
print(won)
"""
HOLD = """
import sys
from countgen.benchmarks.evaluation.run_folder import locked_run
from pathlib import Path

with locked_run(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def python(script: str, *arguments: str | Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_file_is_always_whole_and_a_new_name_has_one_winner(tmp_path: Path) -> None:
    with python(WRITE, tmp_path / "file", "a") as first, python(WRITE, tmp_path / "file", "b") as second:
        won = [int(process.communicate()[0]) for process in (first, second)]
    assert sum(won) == 300
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["file", *(f"new-{k}" for k in range(300))])


def test_a_second_process_waits_for_no_run_folder_and_a_killed_one_holds_none(tmp_path: Path) -> None:
    with python(HOLD, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunFolderError, match="in use by another run"), locked_run(tmp_path):
            pass
        process.kill()
    with locked_run(tmp_path):
        pass
