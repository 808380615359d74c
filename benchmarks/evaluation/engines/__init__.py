"""Engines that generate the cases of a run: this process, or the workers of a Ray cluster."""

from collections.abc import Callable, Iterator, Sequence

from countgen.benchmarks.evaluation.plan import Case, RunSettings
from countgen.benchmarks.evaluation.worker import Outcome

Engine = Callable[[Sequence[Case], RunSettings], Iterator[Outcome]]
"""Function from the cases that are left to their outcomes, in any order."""

__all__ = ["Engine"]
