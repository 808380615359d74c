"""Kill writers at each of their file operations in turn, and check what they leave: `python -m tests.faults.deaths`.

A process of its own, because it forks before any library has started a thread. A tear within a record is
`tests.faults.crash_consistency.tear`.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import replace
from PIL import Image

from countgen.benchmarks.evaluation.plan import Case, RunSettings
from countgen.benchmarks.evaluation.records import read_run
from countgen.benchmarks.evaluation.run import evaluate
from countgen.benchmarks.evaluation.worker import Outcome
from countgen.files.writing import write_atomically
from countgen.tokens.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tests.benchmarks.evaluation.test_records import DONE
from tests.faults.crash_consistency import settings

OPERATIONS = ("open", "os.link", "os.mkdir", "os.remove", "os.rename")
CASES = 3
NEVER = -1


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


def deaths(work: Callable[[], object], folder: Path) -> Iterator[None]:
    """Yield after each kill, until the work is finished before its turn comes."""
    for operation in itertools.count():
        if finishes(work, folder, operation):
            return
        yield


def replacement(folder: Path, write: Callable[[int], object], read: Callable[[], int]) -> int:
    """A reader sees the old content or the new one, and the next write needs no repair."""
    killed = 0
    write(1)
    for _ in deaths(lambda: write(2), folder):
        assert read() in (1, 2)
        write(1)
        killed += 1
    assert read() == 2
    return killed


def file(folder: Path) -> int:
    path, contents = folder / "file", [bytes([number]) * 9999 for number in range(3)]
    return replacement(
        folder, lambda number: write_atomically(contents[number], path), lambda: contents.index(path.read_bytes())
    )


def checkpoint(folder: Path) -> int:
    path, vectors = folder / "checkpoint.safetensors", {"clip_l": torch.ones(9, 99)}
    return replacement(
        folder,
        lambda step: save_checkpoint(Checkpoint(vectors=vectors, step=step), path, "a run"),
        lambda: load_checkpoint(path, "a run").step,
    )


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
        assert len(list((run / "images").iterdir())) == CASES
        assert len(log.read_text().splitlines()) <= CASES + (not finished)
        if finished:
            return operation
    raise AssertionError


if __name__ == "__main__":
    for writer in (file, checkpoint, run):
        with tempfile.TemporaryDirectory() as name:
            print(f"{writer.__name__}: {writer(Path(name))} deaths", flush=True)
