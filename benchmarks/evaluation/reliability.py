"""Whether P(right) is true: what critics predict beside what a judge finds, by probability and for kinds of prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from countgen.benchmarks.evaluation.metrics import is_right, total
from countgen.benchmarks.evaluation.records import Record
from countgen.benchmarks.evaluation.statistics import wilson_interval

BINS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
"""Lower bounds of the bins of probability."""

FEW = 100
"""Number of images below which a row is marked: its interval is wider than what it would have to show."""


def _one_class(low: int, high: float) -> Callable[[Record], bool]:
    return lambda record: len(record.targets) == 1 and low <= total(record) <= high


def _after(low: int, high: float) -> Callable[[Record], bool]:
    return lambda record: low <= record.evaluations <= high


GROUPS: dict[str, Callable[[Record], bool]] = {
    "1-5 objects": _one_class(1, 5),
    "6-12 objects": _one_class(6, 12),
    "13 objects and more": _one_class(13, float("inf")),
    "several classes": lambda record: len(record.targets) > 1,
    "after 1 evaluation": _after(0, 1),
    "after 2-4": _after(2, 4),
    "after 5-12": _after(5, 12),
    "after 13 and more": _after(13, float("inf")),
}
"""Groups of confirmed images; a search spends one evaluation on each seed."""


@dataclass(frozen=True)
class Reliability:
    """What was predicted of images, and what came true.

    Attributes:
        images: number of images.
        predicted: mean P(right).
        right: number of images right.
        interval: 95 % Wilson confidence interval of the fraction right.
    """

    images: int
    predicted: float
    right: int
    interval: tuple[float, float]

    @property
    def share(self) -> float:
        """Fraction of images right."""
        return self.right / self.images


def by_probability(records: Sequence[Record], judge: str) -> dict[float, Reliability]:
    """Return the reliability of each bin that has images, by its lower bound."""
    uppers = (*BINS[1:], float("inf"))
    known = [(record.probability, record) for record in records if record.probability is not None]
    bins = {
        low: [record for probability, record in known if low <= probability < high]
        for low, high in zip(BINS, uppers, strict=True)
    }
    return {low: reliability(group, judge) for low, group in bins.items() if group}


def of_confirmed(records: Sequence[Record], judge: str) -> dict[str, Reliability]:
    """Return the reliability of the confirmed images of each of `GROUPS` that has any."""
    confirmed = [record for record in records if record.confirmed and record.probability is not None]
    groups = {name: [record for record in confirmed if belongs(record)] for name, belongs in GROUPS.items()}
    return {name: reliability(group, judge) for name, group in groups.items() if group}


def reliability(records: Iterable[Record], judge: str) -> Reliability:
    """Return the reliability of records with a probability; at least one."""
    pairs = [(record.probability or 0.0, is_right(record, judge)) for record in records]
    right = sum(verdict for _, verdict in pairs)
    predicted = sum(probability for probability, _ in pairs) / len(pairs)
    return Reliability(len(pairs), predicted, right, wilson_interval(right, len(pairs)))
