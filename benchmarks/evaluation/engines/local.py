"""Generate in this process, one image after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from countgen.benchmarks.evaluation.plan import Case, RunSettings, object_names
from countgen.benchmarks.evaluation.worker import Outcome, Worker


def attempts(cases: Sequence[Case], settings: RunSettings) -> Iterator[Outcome]:
    """Yield outcomes in the order of the cases, with the models of one backbone in memory at a time."""
    for backbone, group in groupby(cases, key=lambda case: case.backbone):
        own = list(group)
        worker = Worker(settings, backbone, object_names(own))
        yield from map(worker.attempt, own)
        del worker  # free the models before the next ones are loaded
