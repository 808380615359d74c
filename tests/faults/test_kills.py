"""A writer that is killed at any moment leaves what was there before, or all of what it wrote.

`python -m tests.faults.test_kills` kills a run at each of its file operations in turn, and checks what it leaves.
It is a process of its own, because it forks before any library has started a thread.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from PIL import Image

from countgen.benchmarks.evaluation.plan import Case, RunSettings
from countgen.benchmarks.evaluation.records import read_run
from countgen.benchmarks.evaluation.run import evaluate
from countgen.benchmarks.evaluation.worker import Outcome
from countgen.files.json_lines import LineFile
from tests.benchmarks.evaluation.test_records import DONE
from tests.faults.crash_consistency import settings

pytestmark = pytest.mark.core
OPERATIONS = ("open", "os.link", "os.mkdir", "os.remove", "os.rename")
CASES = 3
NEVER = -1


def test_a_death_at_any_file_operation_loses_nothing_that_is_finished() -> None:
    command = [sys.executable, "-m", "tests.faults.test_kills"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) >= 9  # opening the part, renaming and opening the folder, of each of several files


def test_a_record_is_on_the_disk_before_the_next_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    for name in ("pwrite", "fsync"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, call=call: calls.append(name) or call(*args))
    with LineFile(tmp_path, "records.jsonl") as file:
        file.append(b"{}\n")
    assert calls == ["pwrite", "fsync"]


def finishes(work: Callable[[], object], folder: Path, operation: int) -> bool:
    """Do work in a child that is killed at an operation on the files of a folder; whether it had finished before."""
    if child := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, -signal.SIGKILL), code
        return code == 0
    operations = itertools.count()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in OPERATIONS and str(arguments[0]).startswith(str(folder)) and next(operations) == operation:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def run(folder: Path) -> int:
    """A run that goes on after its death changes no record, repeats none, and begins one image again at most."""
    image = Image.effect_noise((64, 64), 80).convert("RGB")
    for operation in itertools.count():
        run, log = folder / f"run-{operation}", folder / f"log-{operation}"

        def attempts(cases: Sequence[Case], _: RunSettings, log: Path = log) -> Iterator[Outcome]:
            for case in cases:
                with log.open("a") as begun:
                    begun.write(f"{case.key}\n")
                path = f"images/{case.key}.png"
                yield Outcome(replace(DONE, key=case.key, image=path, before=path), None, image, {}, 0)

        work, records = partial(evaluate, settings(CASES), run, attempts, quiet=True), run / "records.jsonl"
        finished = finishes(work, run, operation)
        recorded = records.read_bytes() if records.exists() else b""
        assert finishes(work, run, NEVER)
        assert records.read_bytes().startswith(recorded)
        assert len(records.read_bytes().splitlines()) == len(read_run(run)[1]) == CASES
        images = list((run / "images").iterdir())
        assert len(images) == CASES
        assert all(Image.open(path).tobytes() == image.tobytes() for path in images)
        assert len(log.read_text().splitlines()) <= CASES + (not finished)
        if finished:
            return operation
    raise AssertionError


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print(run(Path(name)))
