"""A cheap run, and what tears its last record or fills the disk under it."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from countgen import miniature
from countgen.benchmarks.evaluation.json_lines import LineFile
from countgen.benchmarks.evaluation.plan import RunSettings, suite_digest
from countgen.benchmarks.evaluation.records import Record, read_records

SUITE = "t2icountbench-miniature"


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
