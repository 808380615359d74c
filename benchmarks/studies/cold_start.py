"""Seconds from nothing to a right image on the command line: `python -m benchmarks.studies.cold_start`.

Every run is a new process: it imports the libraries, loads the models, draws, judges and writes the PNGs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from benchmarks.studies.cases import one_class


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.cold_start", description=__doc__)
    parser.add_argument("--pairs", type=int, default=3, help="runs per count")
    parser.add_argument("--counts", default="1-7", help="first-last")
    options = parser.parse_args(arguments)
    first, last = (int(end) for end in options.counts.split("-"))
    seconds, right = [], []
    with tempfile.TemporaryDirectory() as folder:
        for case in one_class(range(first, last + 1), options.pairs, "reporting"):
            command = [sys.executable, "-m", "app.cli", "generate", case.prompt, "--seed", str(case.seed)]
            begun = time.perf_counter()
            done = subprocess.run([*command, "--json", "--out", folder], capture_output=True, text=True, check=False)
            seconds.append(time.perf_counter() - begun)
            right.append(done.returncode == 0 and json.loads(done.stdout)["right"] == 1)
    print(
        f"{len(seconds)} cold starts, counts {first} to {last}: median {statistics.median(seconds):.1f} s, "
        f"slowest {max(seconds):.1f} s; right by the judge {sum(right)} of {len(right)}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
