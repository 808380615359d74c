"""Run the command in a process of its own, and measure it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

COUNTGEN = ("-m", "countgen.app.cli")
"""Arguments of Python that start the command."""
_EVERY = 0.05


@dataclass(frozen=True)
class Finished:
    """What a process took and wrote.

    Attributes:
        seconds: from its start to its end.
        first_output: seconds until its first output, or until it was ready.
        cpu_seconds: of the process, which other processes do not add to.
        peak: bytes, the largest resident set, pages of mapped files included.
        private: bytes, the largest part of it that belongs to no file. Both are read every `_EVERY` seconds: the peak
            that `wait4` returns would include that of this process, from which the new one begins.
        code: exit code.
        output: standard output and error.
    """

    seconds: float
    first_output: float
    cpu_seconds: float
    peak: int
    private: int
    code: int
    output: str


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    folder: Path | None = None,
    limit: float | None = None,
    ready: Callable[[], bool] | None = None,
) -> Finished:
    """Run Python, without a GPU, and wait for its end.

    Args:
        arguments: of Python.
        environment: variables, in addition to those of this process.
        folder: to run in; this process's by default.
        limit: seconds after which it is interrupted.
        ready: of a process that does not end by itself: it is interrupted when this is true.
    """
    variables = {**os.environ, **environment, "CUDA_VISIBLE_DEVICES": ""}
    begin = perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], env=variables, cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )
        peak, private, first, interrupted = 0, 0, None, False
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            peak, private = map(max, (peak, private), _resident(process.pid))
            spent = perf_counter() - begin
            if first is None and (ready() if ready else os.fstat(output.fileno()).st_size):
                first = spent
            if not interrupted and ((ready and first) or (limit is not None and spent > limit)):
                process.send_signal(signal.SIGTERM)
                interrupted = True
            sleep(_EVERY)
        seconds = perf_counter() - begin
        output.seek(0)
        text = output.read()
    _, status, usage = ended
    process.returncode = os.waitstatus_to_exitcode(status)
    return Finished(
        seconds=seconds,
        first_output=seconds if first is None else first,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak=peak,
        private=private,
        code=process.returncode,
        output=text,
    )


def _resident(process: int) -> tuple[int, int]:
    """Return the bytes of a process's largest resident set, and those that now belong to no file; 0 after its end."""
    lines = Path(f"/proc/{process}/status").read_text("utf-8").splitlines()
    values = {name: value for name, _, value in (line.partition(":") for line in lines)}
    peak, private = (int(values.get(name, "0").split()[0]) * 1024 for name in ("VmHWM", "RssAnon"))
    return peak, private
