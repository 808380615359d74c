"""The engines that generate the cases of a run: this process, or the workers of a Ray cluster."""

from collections.abc import Callable, Iterator, Sequence

from benchmarks.evaluation.plan import Case, RunSettings
from benchmarks.evaluation.worker import Outcome

Engine = Callable[[Sequence[Case], RunSettings], Iterator[Outcome]]
"""Takes the cases that are left and yields outcomes as they are finished, in any order."""

__all__ = ["Engine"]
