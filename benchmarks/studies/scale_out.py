"""What Ray costs, and what a second worker brings: `python -m benchmarks.studies.scale_out`.

The same real run, without a pause anywhere, by the local engine and by Ray with one and two workers, each in turn.
Rates are taken between the first and the last finished image: starting Ray and loading models are told apart. The
clock is for a machine that does nothing else. Seconds of a core, of this process and all that it started, say what an
image costs on a busy one too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.evaluation.engines import Engine, local, ray_cluster
from benchmarks.evaluation.plan import Case, RunSettings
from benchmarks.evaluation.records import read_run, table
from benchmarks.evaluation.run import evaluate
from benchmarks.evaluation.worker import Outcome
from benchmarks.studies.crash_consistency import settings


@dataclass(frozen=True)
class Pace:
    """How fast an engine was.

    Attributes:
        start: seconds until the first image was finished.
        rate: images a second from there on.
        driver, all: seconds of a core an image from there on: of this process, and with all that it started.
        table: what it found.
    """

    start: float
    rate: float
    driver: float
    all: float
    table: bytes


def pace(asked: RunSettings, engine: Engine, workers: int) -> Pace:
    """Run once, images and records written, and time it."""
    finished: list[tuple[float, float, float]] = []

    def timed(cases: Sequence[Case], settings: RunSettings) -> Iterator[Outcome]:
        for outcome in engine(cases, settings):
            yield outcome
            finished.append((time.perf_counter(), time.process_time(), core_seconds()))

    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        evaluate(asked, Path(folder), timed, quiet=True)
        found = table(read_run(folder)[1])
    # Every worker has finished its first image by then, and so has warmed up.
    first = 2 * workers - 1
    images = len(finished) - 1 - first
    clock, driver, every = (end - start for start, end in zip(finished[first], finished[-1], strict=True))
    return Pace(finished[0][0] - begun, images / clock, driver / images, every / images, found)


def core_seconds() -> float:
    """Seconds of a core that this process and its living descendants have used, to a hundredth; Linux only."""
    parents: dict[int, int] = {}
    used: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            after_name = path.read_text().rpartition(")")[2].split()
            pid = int(path.parent.name)
            parents[pid], used[pid] = int(after_name[1]), int(after_name[11]) + int(after_name[12])
    mine = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= more
    return sum(used.get(pid, 0) for pid in mine) / os.sysconf("SC_CLK_TCK")


def ray_with(workers: int) -> Engine:
    """The Ray engine on this machine."""

    def attempts(cases: Sequence[Case], settings: RunSettings) -> Iterator[Outcome]:
        return ray_cluster.attempts(cases, settings, workers=workers)

    return attempts


ENGINES: dict[str, tuple[Callable[[], Engine], int]] = {
    "local": (lambda: local.attempts, 1),
    "ray, 1 worker": (lambda: ray_with(1), 1),
    "ray, 2 workers": (lambda: ray_with(2), 2),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit code 1 if the engines disagree about a result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.scale_out", description=__doc__)
    parser.add_argument("--cases", type=int, default=100, help="images of a run (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each engine (%(default)s)")
    options = parser.parse_args(arguments)
    asked = settings(options.cases)
    found: dict[str, list[Pace]] = {name: [] for name in ENGINES}
    for _ in range(options.repeats):
        for name, (engine, workers) in ENGINES.items():
            found[name].append(pace(asked, engine(), workers))
    rates = {name: statistics.median(one.rate for one in paces) for name, paces in found.items()}
    for name, paces in found.items():
        start = statistics.median(one.start for one in paces)
        each = ", ".join(f"{one.rate:.2f}" for one in paces)
        driver, every = (statistics.median(getattr(one, which) for one in paces) for which in ("driver", "all"))
        print(
            f"{name}: {every:.3f} s of a core an image, of these {driver:.3f} in the driver; "
            f"{rates[name]:.2f} images a second (runs: {each}), first image after {start:.1f} s"
        )
    one, two = rates["ray, 1 worker"], rates["ray, 2 workers"]
    costs = {name: statistics.median(pace.all for pace in paces) for name, paces in found.items()}
    equal = len({one.table for paces in found.values() for one in paces}) == 1
    print(
        f"Ray costs {100 * (costs['ray, 1 worker'] / costs['local'] - 1):.1f} % of the core's time of an image, "
        f"{100 * (rates['local'] / one - 1):.1f} % of the clock's; two workers are {two / one:.2f} "
        f"times as fast as one of Ray's, {two / rates['local']:.2f} times as fast as the local engine; "
        f"tables byte-equal: {equal}"
    )
    print(f"{options.cases} images a run; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return 0 if equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
