"""How long four evaluations take beside other processes, by how torch's threads wait for each other.

Threads of OpenMP wait for work by spinning, unless OMP_WAIT_POLICY=passive lets them sleep. On a machine whose cores
are all busy, a thread that spins takes the core away from the one it waits for. Every setting has a process of its
own, and the settings take turns, so that other load on the machine meets all of them.

    python -m benchmarks.studies.busy_machine [--repeats 10]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

SETTINGS = {
    "as torch has it": {},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
    "OMP_NUM_THREADS=1": {"OMP_NUM_THREADS": "1"},
}
BUSY = (0, 1, 2)
"""Numbers of busy processes beside the measured one."""
_BUSY = "import torch\na = torch.rand(700, 700)\nwhile True: a = (a @ a).clamp(0, 1)"
_FORGOTTEN = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT")


class Measured:
    """A process that makes four evaluations whenever it is told to."""

    def __init__(self, variables: dict[str, str]) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in _FORGOTTEN}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.studies.busy_machine", "--worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment | variables,
        )

    def __enter__(self) -> Measured:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def evaluate(self) -> tuple[float, float]:
        """Return seconds of the wall clock, and seconds of all threads together, user and system."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(file=self._process.stdin, flush=True)
        wall, cpu = map(float, self._process.stdout.readline().split())
        return wall, cpu


def work() -> None:
    """Load the miniature once, and make four evaluations for every line of standard input."""
    import countgen

    models = countgen.load("miniature", device="cpu")
    countgen.generate("seven apples", models, method="search", max_evaluations=4)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        countgen.generate("seven apples", models, method="search", max_evaluations=4)
        print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)


def measure(number_busy: int, repeats: int) -> None:
    """Print one row for each setting, with `number_busy` busy processes beside it."""
    with ExitStack() as stack:
        measured = {name: stack.enter_context(Measured(variables)) for name, variables in SETTINGS.items()}
        for one in measured.values():
            one.evaluate()  # the first waits for the models
        busy = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(number_busy)]
        for process in busy:
            stack.callback(process.wait)
            stack.callback(process.kill)
        time.sleep(3 * bool(busy))  # until they compute
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in measured}
        for _ in range(repeats):
            for name, one in measured.items():
                times[name].append(one.evaluate())
                wall, cpu = times[name][-1]
                print(f"{number_busy} busy, {name}: {wall:.2f} s, {cpu:.2f} CPU s", file=sys.stderr, flush=True)
    for name, pairs in times.items():
        walls, cpus = zip(*pairs, strict=True)
        print(f"| {number_busy} | {name} | {_in_seconds(walls)} | {max(walls):.2f} | {_in_seconds(cpus)} |", flush=True)


def _in_seconds(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--repeats", type=int, default=10, metavar="N", help="measurements of each setting (%(default)s)"
    )
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        work()
        return
    print(f"load of the last minute before the start {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n")
    print("| busy processes | threads | seconds, median | largest | CPU seconds, median |")
    print("| --- | --- | --- | --- | --- |")
    for number_busy in BUSY:
        measure(number_busy, options.repeats)


if __name__ == "__main__":
    main()
