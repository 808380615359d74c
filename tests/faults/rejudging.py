"""How fast a finished run is judged again, and what kills cost: `python -m tests.faults.rejudging`.

A run of `--images` records, which share the images of the golden set, is judged once without interruption and once with
`--kills` kills at random moments, each followed by the same call again. Everything happens in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from msgspec.structs import replace

from countgen.benchmarks.evaluation.golden import FOLDER
from countgen.benchmarks.evaluation.judgements import JUDGEMENTS, read_judgements
from countgen.benchmarks.evaluation.records import IMAGES, RECORDS, SETTINGS, Record, read_run
from countgen.benchmarks.evaluation.rejudge import rejudge

JUDGE = "miniature-fcos"


@dataclass
class Kills:
    """What killing did to the judgements.

    Attributes:
        number: of kills.
        lost: judgements that were on the disk and later were not.
        twice: images with two judgements in the end.
        equal: the counts are those of the run that nobody killed.
    """

    number: int = 0
    lost: int = 0
    twice: int = 0
    equal: bool = True


def write_run(folder: Path, number: int) -> Path:
    """Write a run of so many records that share the images of the golden set, steered and judged by nobody yet."""
    shutil.copytree(FOLDER / IMAGES, folder / IMAGES)
    shutil.copy(FOLDER / SETTINGS, folder / SETTINGS)
    _, golden = read_run(FOLDER)
    alone = [
        replace(one, critics=(), judges=("nobody",), critic_counts=(), judge_counts={}, confidence={}) for one in golden
    ]
    records = [replace(alone[place % len(alone)], key=f"{place:032x}") for place in range(number)]
    (folder / RECORDS).write_bytes(b"".join(map(Record.to_line, records)))
    return folder


def kill(folder: Path, judge: str, batch_size: int, number: int, longest: float, rng: random.Random) -> Kills:
    """Judge a run in processes, `number` of which are killed at random moments, until all is judged.

    Args:
        folder: of the run.
        judge, batch_size: as of `rejudge`.
        number: of kills.
        longest: seconds before a kill at most.
        rng: chooses the moments.
    """
    found, before, finished = Kills(), set[str](), False
    while not finished:
        child = os.fork()
        if not child:
            rejudge(folder, [judge], batch_size=batch_size, quiet=True)
            os._exit(0)
        if found.number < number:
            time.sleep(rng.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code > 0:
            raise RuntimeError(f"judging ended with exit code {code}")
        finished = code == 0
        found.number += not finished
        keys = {one.key for one in read_judgements(folder)}
        found.lost += len(before - keys)
        before = keys
    lines = (folder / JUDGEMENTS).read_bytes().splitlines()
    found.twice = len(lines) - len({json.loads(line)["key"] for line in lines})
    return found


def _counts(folder: Path) -> dict[str, tuple[int, ...] | None]:
    return {one.key: one.counts for one in read_judgements(folder)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if a kill lost a judgement, or changed one."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.rejudging", description=__doc__)
    parser.add_argument("--images", type=int, default=1000, metavar="N", help="of the run (%(default)s)")
    parser.add_argument("--kills", type=int, default=10, metavar="N", help="(%(default)s)")
    parser.add_argument("--judge", default=JUDGE, metavar="NAME", help="(%(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments of the kills (%(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        whole = write_run(Path(name) / "whole", options.images)
        clock, core = time.monotonic(), time.process_time()
        rejudge(whole, [options.judge], batch_size=options.batch_size, quiet=True)
        clock, core = time.monotonic() - clock, time.process_time() - core
        print(
            f"{options.images} images by {options.judge}, {options.batch_size} at once: "
            f"{options.images / core:.1f} a second of a core, {options.images / clock:.1f} on the clock, loading "
            f"included (load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)",
            flush=True,
        )
        killed = write_run(Path(name) / "killed", options.images)
        # Longer pauses would finish the run before its share of the kills.
        longest = clock / max(1, options.kills)
        found = kill(killed, options.judge, options.batch_size, options.kills, longest, random.Random(options.seed))
        # Not their confidences: within another batch floating point rounds differently.
        found.equal = _counts(killed) == _counts(whole)
        print(
            f"{found.number} kills: {found.lost} judgements lost, {found.twice} images judged twice, equal to those "
            f"without a kill: {found.equal}"
        )
    return 1 if found.lost or found.twice or not found.equal else 0


if __name__ == "__main__":
    raise SystemExit(main())
