"""A cheap run, and what fills the disk under it."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from countgen import miniature
from countgen.benchmarks.evaluation.plan import RunSettings, suite_digest

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
