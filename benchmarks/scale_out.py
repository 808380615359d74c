"""What Ray costs, and what a second worker brings: `python -m benchmarks.scale_out`.

The same real run, without a pause anywhere, by the local engine and by Ray with one and two workers, each in turn.
Rates are taken between the first and the last finished image: starting Ray and loading models are told apart. Measure
on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engines import Engine, local, ray_cluster
from benchmarks.plan import Case, RunSettings
from benchmarks.records import read_run, table
from benchmarks.reliability import settings
from benchmarks.run import evaluate
from benchmarks.worker import Outcome


@dataclass(frozen=True)
class Pace:
    """How fast an engine was.

    Attributes:
        start: seconds until the first image was finished.
        rate: images a second from there on.
        table: what it found.
    """

    start: float
    rate: float
    table: bytes


def pace(asked: RunSettings, engine: Engine, workers: int) -> Pace:
    """Run once, pictures and records written, and time it."""
    finished: list[float] = []

    def timed(cases: Sequence[Case], settings: RunSettings) -> Iterator[Outcome]:
        for outcome in engine(cases, settings):
            yield outcome
            finished.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        evaluate(asked, Path(folder), timed, quiet=True)
        found = table(read_run(folder)[1])
    # Every worker has finished its first image by then, and so has warmed up.
    first = 2 * workers - 1
    return Pace(finished[0] - begun, (len(finished) - 1 - first) / (finished[-1] - finished[first]), found)


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
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale_out", description=__doc__)
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
        print(f"{name}: {rates[name]:.2f} images a second (runs: {each}), first image after {start:.1f} s")
    one, two = rates["ray, 1 worker"], rates["ray, 2 workers"]
    equal = len({one.table for paces in found.values() for one in paces}) == 1
    print(
        f"Ray costs {100 * (rates['local'] / one - 1):.1f} % of the time of an image; two workers are {two / one:.2f} "
        f"times as fast as one of Ray's, {two / rates['local']:.2f} times as fast as the local engine; "
        f"tables byte-equal: {equal}"
    )
    print(f"{options.cases} images a run; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return 0 if equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
