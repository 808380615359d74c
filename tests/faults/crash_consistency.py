"""What a run survives: `python -m tests.faults.crash_consistency`.

A run is killed at random moments until it is finished, and its table compared with an uninterrupted run's; the last
record is torn at every byte; the disk fills up; a folder of many records is opened. Everything happens in a temporary
folder.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from countgen import miniature
from countgen.benchmarks.evaluation.json_lines import LineFile, split_torn
from countgen.benchmarks.evaluation.plan import Case, RunSettings, suite_digest
from countgen.benchmarks.evaluation.records import (
    IMAGES,
    RECORDS,
    SETTINGS,
    Record,
    read_records,
    read_run,
)
from countgen.benchmarks.evaluation.run import evaluate
from countgen.benchmarks.evaluation.worker import Outcome, Worker
from countgen.errors import CountGenError
from tests.benchmarks.evaluation.made_records import comparable

SUITE = "t2icountbench-miniature"
MOST_OPENING_SECONDS = 2.0
"""Most seconds of a core, for the records of `--records`; the clock of a busy machine says little."""


@dataclass
class Kills:
    """What killing a run did to it.

    Attributes:
        number: of kills.
        torn: kills that left half a record.
        lost: cases that were recorded and later were not.
        twice: cases with two records in the end.
        most_redone: images that one kill caused to be begun again, at most.
        table_equal, images_equal: to those of a run that nobody killed, byte by byte.
    """

    number: int = 0
    torn: int = 0
    lost: int = 0
    twice: int = 0
    most_redone: int = 0
    table_equal: bool = True
    images_equal: bool = True


def settings(cases: int) -> RunSettings:
    """Return settings of so many plain images on one thread: the cheapest real run."""
    return RunSettings(
        suite=SUITE,
        suite_sha256=suite_digest(SUITE),
        limit=cases,
        backbones=("miniature",),
        methods=("plain",),
        critics=miniature.CRITICS,
        judges=(miniature.JUDGE,),
        max_evaluations=1,
    )


class KilledRun:
    """One run in child processes that share this process's loaded models.

    Args:
        worker: with loaded models.
        folder: of the run.
    """

    def __init__(self, worker: Worker, folder: Path) -> None:
        self.worker = worker
        self.folder = folder
        self.log = folder.with_suffix(".log")
        self.log.touch()

    def start(self) -> int:
        """Go on with the run in a child; returns its process id."""
        child = os.fork()
        if child:
            return child
        try:
            evaluate(self.worker.settings, self.folder, self._attempts, quiet=True)
        except BaseException as error:
            print(f"the run failed: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)

    def _attempts(self, cases: Sequence[Case], _: RunSettings) -> Iterator[Outcome]:
        # Appended by one system call each: a kill loses none of them.
        log = os.open(self.log, os.O_WRONLY | os.O_APPEND)
        for case in cases:
            os.write(log, f"begun {case.key}\n".encode())
            yield self.worker.attempt(case)
            os.write(log, f"kept {case.key}\n".encode())

    def logged(self, what: str) -> list[str]:
        """Keys of the cases that were "begun" or "kept", in order, with repetitions."""
        return [line.split()[1] for line in self.log.read_text().splitlines() if line.startswith(what)]

    def recorded(self) -> set[str]:
        """Keys of the cases in the records, as they are on the disk now."""
        return {record.key for record in read_records(self.folder / RECORDS)}


def kill(worker: Worker, folder: Path, number: int, rng: random.Random) -> Kills:
    """Kill runs at random moments, `number` times in all; each run is finished in the end.

    Raises:
        RuntimeError: a run failed by itself.
    """
    reference = KilledRun(worker, folder / "reference")
    started = time.monotonic()
    _wait(reference.start())
    # Longer pauses would finish a run before its share of the kills, shorter ones never begin an image.
    longest = 1.4 * (time.monotonic() - started) / number
    found = Kills()
    rounds = 0
    while found.number < number:
        rounds += 1
        _kill_one(KilledRun(worker, folder / f"killed-{rounds}"), reference, number, longest, rng, found)
    return found


def _kill_one(
    run: KilledRun, reference: KilledRun, number: int, longest: float, rng: random.Random, found: Kills
) -> None:
    finished = False
    while not finished:
        begun = len(run.logged("begun"))
        child = run.start()
        if found.number < number:
            time.sleep(rng.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
        finished = _wait(child)
        found.number += not finished
        path = run.folder / RECORDS
        found.torn += bool(split_torn(path.read_bytes())[1]) if path.exists() else False
        found.lost += len(set(run.logged("kept")) - run.recorded())
        keys = run.logged("begun")
        found.most_redone = max(found.most_redone, len(set(keys[:begun]) & set(keys[begun:])))
    lines = (run.folder / RECORDS).read_bytes().splitlines()
    found.twice += sum(times > 1 for times in Counter(json.loads(line)["key"] for line in lines).values())
    found.table_equal &= comparable(read_run(run.folder)[1]) == comparable(read_run(reference.folder)[1])
    found.images_equal &= _images(run) == _images(reference)


def _wait(child: int) -> bool:
    """Whether the child finished; False if it was killed."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code > 0:
        raise RuntimeError(f"a run ended with exit code {code}")
    return code == 0


def _images(run: KilledRun) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run.folder / IMAGES).iterdir()}


def tear(records: Sequence[Record], folder: Path) -> tuple[int, int]:
    """Cut a file of records at every byte of the last one, and append to what is left.

    Returns:
        How many cuts lost nothing before the last record and took the next one, and how many there were.
    """
    path = folder / "torn.jsonl"
    earlier, last = b"".join(record.to_line() for record in records[:-1]), records[-1].to_line()
    good = 0
    for length in range(len(last) + 1):
        path.write_bytes(earlier + last[:length])
        with LineFile(path.parent, path.name) as file:
            file.append(records[-1].to_line())
        good += read_records(path) == list(records) and path.read_bytes().startswith(earlier)
    return good, len(last) + 1


def fill_disk(records: Sequence[Record], folder: Path) -> tuple[str, bool]:
    """Let the disk be full in the middle of the last record.

    Returns:
        What the user reads, and whether all earlier records are as they were.
    """
    path = folder / "full.jsonl"
    with LineFile(path.parent, path.name) as file:
        for record in records[:-1]:
            file.append(record.to_line())
        earlier = path.read_bytes()
        message = "no error"
        with file_size_limit(len(earlier) + 100):
            try:
                file.append(records[-1].to_line())
            except CountGenError as error:
                message = str(error)
        intact = path.read_bytes() == earlier
        file.append(records[-1].to_line())
    return message, intact and read_records(path) == list(records)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes: writes fail half-done, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    usual = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, usual)


def as_in_a_study(record: Record) -> Record:
    """The record with what a study's have: two judges with eight boxes each, five best candidates."""
    boxes = tuple((12 * k, 5 + 12 * k, 30 + 12 * k, 28 + 12 * k) for k in range(8))
    return replace(
        record,
        judges=(miniature.JUDGE, "second-judge"),
        judge_counts=dict.fromkeys((miniature.JUDGE, "second-judge"), (8,)),
        confidence=dict.fromkeys((miniature.JUDGE, "second-judge"), 0.8125),
        boxes=dict.fromkeys((miniature.JUDGE, "second-judge"), boxes),
        trace=tuple((4 + 8 * k, round(0.1234 * (k + 1), 4), k > 3) for k in range(5)),
    )


def time_opening(record: Record, number: int, folder: Path) -> tuple[float, float]:
    """Seconds on the clock, and of a core, to open a run of so many records."""
    (folder / SETTINGS).write_text("{}")
    with (folder / RECORDS).open("wb") as file:
        for k in range(number):
            file.write(replace(record, key=f"{k:032x}", seed=k).to_line())
    clock, core = time.perf_counter(), time.process_time()
    _, records = read_run(folder)
    clock, core = time.perf_counter() - clock, time.process_time() - core
    assert len(records) == number
    return clock, core


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit code 1 if anything was lost, or opening took more of a core than it may."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.crash_consistency", description=__doc__)
    parser.add_argument("--cases", type=int, default=200, help="images of the run that is killed (%(default)s)")
    parser.add_argument("--kills", type=int, default=50, help="at random moments (%(default)s)")
    parser.add_argument("--records", type=int, default=100_000, help="of the run that is opened (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
    options = parser.parse_args(arguments)
    worker = Worker(settings(options.cases), "miniature")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = kill(worker, folder, options.kills, random.Random(options.seed))
        print(
            f"{found.number} kills of a run of {options.cases} images: {found.lost} finished images lost, "
            f"{found.twice} recorded twice, at most {found.most_redone} redone after a kill, "
            f"{found.torn} torn records repaired; table byte-equal to an uninterrupted run: {found.table_equal}, "
            f"images: {found.images_equal}",
            flush=True,
        )
        _, records = read_run(folder / "reference")
        repaired, cuts = tear(records[:3], folder)
        print(f"last record torn at every byte: {repaired} of {cuts} repaired, earlier records as they were")
        message, intact = fill_disk(records[:3], folder)
        print(f"disk full: {message!r}; earlier records as they were: {intact}")
        clock, core = time_opening(as_in_a_study(records[0]), options.records, folder)
        print(
            f"{options.records} records like a study's open in {core:.2f} s of a core, {clock:.2f} s on the clock "
            f"(load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)"
        )
    clean = not (found.lost or found.twice) and found.most_redone <= 1 and found.table_equal and found.images_equal
    return 0 if clean and repaired == cuts and intact and core <= MOST_OPENING_SECONDS else 1


if __name__ == "__main__":
    raise SystemExit(main())
