"""Compare two methods or two runs on the same cases, and two judges on the same images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from countgen.benchmarks.evaluation.metrics import Key, counts, evaluated_by, is_right, target_counts
from countgen.benchmarks.evaluation.records import Record
from countgen.benchmarks.evaluation.statistics import Duel, cluster_bootstrap, cohen_kappa, duel, holm


@dataclass(frozen=True)
class Difference:
    """A mean paired difference, first minus second, with its 95 % cluster bootstrap confidence interval by prompt.

    NaN without cases.
    """

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
    """

    duel: Duel
    unpaired: int
    accuracy: Difference


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


def case(record: Record) -> tuple[str, tuple[tuple[str, int], ...], int]:
    """Return the case of a record, by which records are paired: prompt, targets and seed, whatever its list's name."""
    return record.prompt, tuple(record.wanted.items()), record.seed


def pairs(first: Iterable[Record], second: Iterable[Record]) -> list[tuple[Record, Record]]:
    """Return pairs of records of the same case, ordered by case."""
    by_case, other = ({case(record): record for record in records} for records in (first, second))
    return [(by_case[key], other[key]) for key in sorted(by_case.keys() & other.keys())]


def compare(first: Iterable[Record], second: Iterable[Record], judge: str) -> Comparison:
    """Compare two methods, or one method of two runs, on the cases that both have."""
    judged, other = evaluated_by(first, judge), evaluated_by(second, judge)
    paired = pairs(judged, other)
    a, b = (np.array([is_right(pair[place], judge) for pair in paired], dtype=float) for place in (0, 1))
    ends = cluster_bootstrap(a - b, [record.prompt for record, _ in paired]) if paired else (math.nan, math.nan)
    return Comparison(
        duel=duel(a, b),
        unpaired=len({case(record) for record in judged} ^ {case(record) for record in other}),
        accuracy=Difference(float((a - b).mean()) if paired else math.nan, *ends),
    )


def with_holm(compared: Mapping[Key, Comparison]) -> list[tuple[Key, Comparison, float]]:
    """Return the comparisons that have cases, each with its key and its p-value, adjusted for all of them (Holm)."""
    known = {key: comparison for key, comparison in compared.items() if comparison.duel.cases}
    adjusted = holm([comparison.duel.p_value for comparison in known.values()])
    return list(zip(known, known.values(), adjusted, strict=True))


def agreement(records: Iterable[Record], first: str, second: str) -> Agreement:
    """Return the agreement of two judges on the images that both counted."""
    both = [
        (a, b, target_counts(record))
        for record in records
        if (a := counts(record, first)) is not None and (b := counts(record, second)) is not None
    ]
    by_first, by_second = [count for a, _, _ in both for count in a], [count for _, b, _ in both for count in b]
    return Agreement(
        counts=len(by_first),
        equal=fmean(a == b for a, b in zip(by_first, by_second, strict=True)) if both else math.nan,
        kappa=cohen_kappa(by_first, by_second),
        verdict_kappa=cohen_kappa([a == target for a, _, target in both], [b == target for _, b, target in both]),
    )
