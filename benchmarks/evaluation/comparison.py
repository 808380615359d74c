"""Two methods on the same cases, two runs on the same cases, two judges on the same images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.evaluation.metrics import absolute_error, asked, counts, is_right, shown_to
from benchmarks.evaluation.records import Record
from benchmarks.evaluation.statistics import Duel, cluster_bootstrap, cohen_kappa, duel


@dataclass(frozen=True)
class Difference:
    """Mean of a paired difference, first minus second, with its 95 % cluster bootstrap interval by prompt.

    NaN where no case has both values.
    """

    cases: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Two methods, or two runs, on the cases that both have.

    Attributes:
        duel: exact McNemar test on right and wrong.
        unpaired: cases that only one of the two has; they are left out.
        accuracy: difference of the share right, in [-1, 1].
        error: difference of the absolute error in objects, on cases that both drew.
    """

    duel: Duel
    unpaired: int
    accuracy: Difference
    error: Difference


@dataclass(frozen=True)
class Agreement:
    """Two judges on the same images.

    Attributes:
        counts: how many they compare, one per object of each image that both counted.
        equal: share of counts that are equal; NaN without any.
        kappa: Cohen's, unweighted, on the counts.
        verdict_kappa: Cohen's on right or wrong, by image.
    """

    counts: int
    equal: float
    kappa: float
    verdict_kappa: float


def case(record: Record) -> tuple[str, str, tuple[tuple[str, int], ...], int]:
    """What makes two records comparable: suite, prompt, targets and seed."""
    return record.suite, record.prompt, tuple((t.object_name, t.target_count) for t in record.targets), record.seed


def pairs(first: Iterable[Record], second: Iterable[Record]) -> list[tuple[Record, Record]]:
    """Records of the same case, ordered by case."""
    mine, other = ({case(record): record for record in records} for records in (first, second))
    return [(mine[key], other[key]) for key in sorted(mine.keys() & other.keys())]


def difference(paired: Sequence[tuple[Record, Record]], value: Callable[[Record], float | None]) -> Difference:
    """Mean of `value` of the first minus `value` of the second, over the pairs where neither is None."""
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
    """Two methods, or one method of two runs, on the cases that both have."""
    mine, other = shown_to(first, judge), shown_to(second, judge)
    paired = pairs(mine, other)
    return Comparison(
        duel=duel([is_right(a, judge) for a, _ in paired], [is_right(b, judge) for _, b in paired]),
        unpaired=len({case(r) for r in mine} ^ {case(r) for r in other}),
        accuracy=difference(paired, lambda record: float(is_right(record, judge))),
        error=difference(paired, lambda record: absolute_error(record, judge)),
    )


def agreement(records: Iterable[Record], first: str, second: str) -> Agreement:
    """How far two judges agree on the images that both counted."""
    both = [
        (a, b, asked(r))
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
