"""Generate in this process, one image after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from benchmarks.evaluation.plan import Case, RunSettings
from benchmarks.evaluation.worker import Outcome, Worker


def attempts(cases: Iterable[Case], settings: RunSettings) -> Iterator[Outcome]:
    """Outcomes in the order of the cases; the models of one backbone are held at a time."""
    worker = None
    for case in cases:
        if worker is None or worker.backbone != case.backbone:
            worker = None  # the old models go before the new ones come
            worker = Worker(settings, case.backbone)
        yield worker.attempt(case)
