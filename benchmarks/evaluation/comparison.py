"""Compare two methods or two runs on the same cases, and two judges on the same images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from countgen.benchmarks.evaluation.metrics import absolute_error, counts, evaluated_by, is_right, target_counts
from countgen.benchmarks.evaluation.records import Record
from countgen.benchmarks.evaluation.statistics import Duel, cluster_bootstrap, cohen_kappa, duel


@dataclass(frozen=True)
class Difference:
    """A mean paired difference, first minus second, with its 95 % cluster bootstrap confidence interval by prompt.

    NaN where no case has both values.
    """

    cases: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """The comparison of two methods, or of two runs, on the cases that both have.

    Attributes:
        duel: exact McNemar test on right and wrong.
        unpaired: cases that only one of the two has; they are left out.
        accuracy: difference of the fractions right, in [-1, 1].
        error: difference of the absolute error in objects, on cases that both generated.
    """

    duel: Duel
    unpaired: int
    accuracy: Difference
    error: Difference


@dataclass(frozen=True)
class Agreement:
    """The agreement of two judges on the same images.

    Attributes:
        counts: number of compared counts, one per object class of each image that both counted.
        equal: fraction of counts that are equal; NaN without any.
        kappa: Cohen's kappa of the counts, unweighted.
        verdict_kappa: Cohen's kappa of right or wrong, by image.
    """

    counts: int
    equal: float
    kappa: float
    verdict_kappa: float


def case(record: Record) -> tuple[str, str, tuple[tuple[str, int], ...], int]:
    """Return the case of a record, by which records are paired: suite, prompt, targets and seed."""
    return record.suite, record.prompt, tuple((t.object_name, t.target_count) for t in record.targets), record.seed


def pairs(first: Iterable[Record], second: Iterable[Record]) -> list[tuple[Record, Record]]:
    """Return pairs of records of the same case, ordered by case."""
    mine, other = ({case(record): record for record in records} for records in (first, second))
    return [(mine[key], other[key]) for key in sorted(mine.keys() & other.keys())]


def difference(paired: Sequence[tuple[Record, Record]], value: Callable[[Record], float | None]) -> Difference:
    """Return the mean of `value` of the first minus `value` of the second, over pairs where neither is None."""
    prompts, differences = [], []
    for a, b in paired:
        mine, other = value(a), value(b)
        if mine is not None and other is not None:
            prompts.append(a.prompt)
            differences.append(mine - other)
    if not differences:
        return Difference(0, math.nan, math.nan, math.nan)
    return Difference(len(differences), fmean(differences), *cluster_bootstrap(differences, prompts))


def compare(first: Iterable[Record], second: Iterable[Record], judge: str) -> Comparison:
    """Compare two methods, or one method of two runs, on the cases that both have."""
    mine, other = evaluated_by(first, judge), evaluated_by(second, judge)
    paired = pairs(mine, other)
    return Comparison(
        duel=duel([is_right(a, judge) for a, _ in paired], [is_right(b, judge) for _, b in paired]),
        unpaired=len({case(r) for r in mine} ^ {case(r) for r in other}),
        accuracy=difference(paired, lambda record: float(is_right(record, judge))),
        error=difference(paired, lambda record: absolute_error(record, judge)),
    )


def agreement(records: Iterable[Record], first: str, second: str) -> Agreement:
    """Return the agreement of two judges on the images that both counted."""
    both = [
        (a, b, target_counts(r))
        for r in records
        if (a := counts(r, first)) is not None and (b := counts(r, second)) is not None
    ]
    mine, other = [count for a, _, _ in both for count in a], [count for _, b, _ in both for count in b]
    return Agreement(
        counts=len(mine),
        equal=fmean(a == b for a, b in zip(mine, other, strict=True)) if mine else math.nan,
        kappa=cohen_kappa(mine, other),
        verdict_kappa=cohen_kappa([a == wanted for a, _, wanted in both], [b == wanted for _, b, wanted in both]),
    )
