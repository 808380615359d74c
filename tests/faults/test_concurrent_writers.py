"""Processes that write the same file or run at the same time."""

import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from countgen.errors import FolderInUseError
from countgen.files.folder import locked
from countgen.files.writing import write_atomically

pytestmark = pytest.mark.core
PROCESSES = get_context("spawn")


def write(path: Path, name: bytes) -> int:
    """Write a file again and again, and return how many new names this process was the first to write."""
    won = 0
    for number in range(300):
        write_atomically(name * 10_000, path)
        assert path.read_bytes() in (b"a" * 10_000, b"b" * 10_000), "torn"
        with suppress(FileExistsError):
            write_atomically(name, path.with_name(f"new-{number}"), overwrite=False)
            won += 1
    return won


def test_a_file_is_always_whole_and_a_new_name_has_one_winner(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with ProcessPoolExecutor(2, PROCESSES) as pool:
        assert sum(pool.map(write, (path, path), (b"a", b"b"))) == 300
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["file", *(f"new-{k}" for k in range(300))])


def hold(folder: Path, held: Any) -> None:
    with locked(folder):
        held.set()
        time.sleep(600)


def test_a_second_process_waits_for_no_run_folder_and_a_killed_one_holds_none(tmp_path: Path) -> None:
    held = PROCESSES.Event()
    process = PROCESSES.Process(target=hold, args=(tmp_path, held), daemon=True)
    process.start()
    assert held.wait(120)
    with pytest.raises(FolderInUseError, match="in use by another run"), locked(tmp_path):
        pass
    process.kill()
    process.join()
    with locked(tmp_path):
        pass
