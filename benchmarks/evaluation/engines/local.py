"""Generate in this process, one image after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from benchmarks.evaluation.plan import Case, RunSettings
from benchmarks.evaluation.worker import Outcome, Worker


def attempts(cases: Iterable[Case], settings: RunSettings) -> Iterator[Outcome]:
    """Yield outcomes in the order of the cases, with the models of one backbone in memory at a time."""
    worker = None
    for case in cases:
        if worker is None or worker.backbone != case.backbone:
            worker = None  # free the old models before the new ones are loaded
            worker = Worker(settings, case.backbone)
        yield worker.attempt(case)
