"""How long four evaluations take beside other processes, by how torch's threads wait for each other.

Threads of OpenMP wait for work by spinning, unless OMP_WAIT_POLICY=passive lets them sleep. On a machine whose cores
are all busy, a thread that spins takes the core away from the one it waits for. Every setting has a process of its
own, and the settings take turns, so that other load on the machine meets all of them. The times are written to
`benchmarks/results/busy_machine.json`, and their table to `docs/results.md`; about four minutes.

    python -m benchmarks.studies.busy_machine [--seconds 60]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.studies.markdown import table

RESULTS = Path("benchmarks/results/busy_machine.json")
DOCUMENT = Path("docs/results.md")
_MARKED = re.compile(r"(<!-- busy machine -->\n).*?(<!-- end of busy machine -->)", re.DOTALL)

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


def measure(measured: Mapping[str, Measured], number_busy: int, seconds: float) -> list[dict[str, Any]]:
    """Return the times of all settings with `number_busy` busy processes beside them; the last turn ends in full."""
    times: list[dict[str, Any]] = []
    with ExitStack() as stack:
        for _ in range(number_busy):
            process = subprocess.Popen([sys.executable, "-c", _BUSY])
            stack.callback(process.wait)
            stack.callback(process.kill)
        time.sleep(3 * bool(number_busy))  # until they compute
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name, one in measured.items():
                wall, cpu = one.evaluate()
                times.append({"busy": number_busy, "threads": name, "seconds": wall, "cpu_seconds": cpu})
                print(f"{number_busy} busy, {name}: {wall:.2f} s, {cpu:.2f} CPU s", file=sys.stderr, flush=True)
    return times


def section(results: Mapping[str, Any]) -> str:
    """Return the section of the document: what was measured on which machine, and the table."""
    rows = []
    for busy in BUSY:
        for name in SETTINGS:
            own = [one for one in results["times"] if (one["busy"], one["threads"]) == (busy, name)]
            walls, cpus = ([one[key] for one in own] for key in ("seconds", "cpu_seconds"))
            figures = statistics.median(walls), max(walls), statistics.median(cpus)
            rows.append([str(busy), name, str(len(own)), *(f"{figure:.2f}" for figure in figures)])
    return (
        "## A busy machine\n\n"
        "`python -m benchmarks.studies.busy_machine`: four evaluations of the embedded model beside processes that "
        f"multiply\nmatrices, on {results['cores']} cores, at a load of {results['load']:.1f} in the minute before.\n\n"
        + table(["busy processes", "threads", "n", "seconds, median", "largest", "CPU seconds, median"], rows)
        + "\n"
    )


def with_section(document: str, results: Mapping[str, Any]) -> str:
    """Return the text of the document with the section between its marks replaced."""
    return _MARKED.sub(lambda found: f"{found[1]}{section(results)}{found[2]}", document)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the times and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seconds", type=float, default=60, help="for each number of busy processes (%(default)s); of the wall clock"
    )
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        work()
        return
    results: dict[str, Any] = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "times": []}
    with ExitStack() as stack:
        measured = {name: stack.enter_context(Measured(variables)) for name, variables in SETTINGS.items()}
        for one in measured.values():
            one.evaluate()  # the first waits for the models
        for number_busy in BUSY:
            results["times"] += measure(measured, number_busy, options.seconds)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    DOCUMENT.write_text(with_section(DOCUMENT.read_text("utf-8"), results), encoding="utf-8")
    print(section(results))


if __name__ == "__main__":
    main()
