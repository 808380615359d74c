"""Metrics of a run, as pure functions of its records and the name of a judge.

A judge is any source of counts: a judge of the run, its first critic (never independent, see `steered`), or a person
who labelled images. Failed images are included: they are wrong and have no error in objects.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

from countgen import accuracy
from countgen.accuracy import means, sums
from countgen.benchmarks.evaluation.records import Record
from countgen.benchmarks.evaluation.statistics import wilson_interval
from countgen.benchmarks.evaluation.suites.prompt import LEVELS
from countgen.image_preservation import LEAST_KEPT, MOST_CHANGED

HUMAN = "human "
"""How the names of people begin among the judges of a record."""

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Scores:
    """The accuracy and errors of images against their target counts.

    Attributes:
        images: number of all images.
        failed: images that were not generated; they are wrong.
        abstained: images to which the judge gave no answer; they are not right, and have no error in objects.
        right: images with exactly the target count of every object class.
        accuracy: fraction of images right, in [0, 1]; NaN without images.
        interval: its 95 % Wilson confidence interval.
        close: images with every count at most one off, right ones included.
        off_by_one: their fraction, in [0, 1]; NaN without images.
        mae, rmse, bias: mean absolute, root mean square and mean signed error in objects, over every object of every
            image that was generated; a bias above 0 is too many. NaN without such images.
        partial: mean over images of the objects' points: half a point where any is counted, half where the count is the
            target; failed images and those without an answer have none. NaN without images. Source: Huang et al. 2025
            (T2I-CompBench++), numeracy.
    """

    images: int
    failed: int
    abstained: int
    right: int
    accuracy: float
    interval: tuple[float, float]
    close: int
    off_by_one: float
    mae: float
    rmse: float
    bias: float
    partial: float


@dataclass(frozen=True)
class Preservation:
    """How much of the plain image of their seed images preserve, on average, by the first judge's boxes.

    Attributes:
        images: number of images that have the measures.
        same_and_right: of all images, those right by the first judge that keep at least `LEAST_KEPT` of the objects and
            change the background by at most `MOST_CHANGED`.
        objects_kept, background_change, structural_similarity: means, see `countgen.image_preservation`.
    """

    images: int
    same_and_right: int
    objects_kept: float
    background_change: float
    structural_similarity: float


def counts(record: Record, judge: str) -> tuple[int, ...] | None:
    """Return a judge's counts, per target; None for an image that failed or that it did not count."""
    if judge in record.judge_counts:
        return record.judge_counts[judge]
    return record.critic_counts if steered(record, judge) and record.critic_counts else None


def steered(record: Record, judge: str) -> bool:
    """Return whether the judge is a critic of the image, so that its counts are biased and have to be marked."""
    return judge in record.critics


def target_counts(record: Record) -> tuple[int, ...]:
    """Return the target counts."""
    return tuple(target.target_count for target in record.targets)


def total(record: Record) -> int:
    """Return the sum of the target counts."""
    return sum(target_counts(record))


def is_right(record: Record, judge: str) -> bool:
    """Return whether the judge's counts equal the target counts; a failed image is wrong."""
    return accuracy.is_right(counts(record, judge), target_counts(record))


def same_and_right(record: Record) -> bool:
    """Return whether the first judge counts an image right that also keeps the plain image of its seed."""
    kept, change = record.objects_kept, record.background_change
    if kept is None or change is None:
        return False
    return is_right(record, record.judges[0]) and kept >= LEAST_KEPT and change <= MOST_CHANGED


def preservation(records: Iterable[Record]) -> Preservation | None:
    """Return how much of the plain images a method's images preserve; None where no record has the measures."""
    known = [record for record in records if record.objects_kept is not None]
    if not known:
        return None
    return Preservation(
        images=len(known),
        same_and_right=sum(map(same_and_right, known)),
        objects_kept=fmean(record.objects_kept or 0.0 for record in known),
        background_change=fmean(record.background_change or 0.0 for record in known),
        structural_similarity=fmean(record.structural_similarity or 0.0 for record in known),
    )


def evaluated_by(records: Iterable[Record], judge: str) -> list[Record]:
    """Return the images that a judge evaluates: those it counted, and those that failed."""
    return [r for r in records if judge in r.judges or judge in r.critics[:1]]


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Return items grouped by `key`, in the order of first appearance."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def by_count(records: Iterable[Record]) -> dict[int, list[Record]]:
    """Return records by the total target count, ascending."""
    return dict(sorted(grouped(records, total).items()))


def by_level(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Return records by level, easy first."""
    groups = grouped(records, lambda record: record.level)
    return {level: groups[level] for level in LEVELS if level in groups}


def by_arm(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return records by method, or by backbone and method where there are several backbones, in order of appearance."""
    several = len({record.backbone for record in records}) > 1
    return grouped(records, lambda r: f"{r.backbone} {r.method}" if several else r.method)


def scores(records: Iterable[Record], judge: str) -> Scores:
    """Return accuracy and errors of the images that the judge evaluates."""
    chosen = evaluated_by(records, judge)
    counted = [(counts(record, judge), target_counts(record)) for record in chosen]
    added = sums(counted)
    return Scores(
        images=len(chosen),
        failed=sum(record.status == "failed" for record in chosen),
        abstained=sum(
            record.status == "done" and answer is None for record, (answer, _) in zip(chosen, counted, strict=True)
        ),
        right=int(added["right"]),
        interval=wilson_interval(int(added["right"]), len(chosen)),
        close=int(added["close"]),
        **means(added),
    )
