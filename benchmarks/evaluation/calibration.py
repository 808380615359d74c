"""How far a judge can be trusted, by people's labels: its errors, accuracy corrected for them, and its reliability.

Labels of people are the truth: of several people for one image only where all agree. Images without a label are not
read here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from countgen.benchmarks.evaluation.metrics import HUMAN, grouped, is_right, scores, target_counts
from countgen.benchmarks.evaluation.records import Record
from countgen.benchmarks.evaluation.statistics import wilson_interval

_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class JudgeErrors:
    """How often a judge is wrong about "right" on labelled images.

    Attributes:
        right: number of images with the target counts by the labels.
        right_found: of these, right by the judge.
        wrong: number of images with other counts by the labels.
        wrong_found: of these, not right by the judge, abstentions included.
    """

    right: int
    right_found: int
    wrong: int
    wrong_found: int

    @property
    def sensitivity(self) -> float:
        """Return the fraction of truly right images that the judge finds right; NaN without any."""
        return self.right_found / self.right if self.right else math.nan

    @property
    def specificity(self) -> float:
        """Return the fraction of truly wrong images that the judge does not find right; NaN without any."""
        return self.wrong_found / self.wrong if self.wrong else math.nan


@dataclass(frozen=True)
class Corrected:
    """An accuracy corrected for the judge's errors, with its 95 % interval, all in [0, 1]; NaN where unknown."""

    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Level:
    """Labelled images that the same fraction of the judges finds right.

    Attributes:
        share: that fraction.
        images: their number.
        right: of these, right by the labels.
        interval: 95 % Wilson interval of the fraction right.
    """

    share: float
    images: int
    right: int
    interval: tuple[float, float]


@dataclass(frozen=True)
class Calibration:
    """What people's labels say about the judges of a run.

    Attributes:
        labelled: number of images with labels on which people agree.
        errors: by judge.
        votes: by the fraction of the independent judges that find an image right, ascending.
    """

    labelled: int
    errors: dict[str, JudgeErrors]
    votes: tuple[Level, ...]


def truth(record: Record) -> tuple[int, ...] | None:
    """Return the counts that all people gave who labelled an image; None without a label or where two differ."""
    given = {answer for judge, answer in record.judge_counts.items() if judge.startswith(HUMAN)}
    return given.pop() if len(given) == 1 else None


def judge_errors(records: Iterable[Record], judge: str) -> JudgeErrors:
    """Return how often a judge is wrong on the labelled images that it judged."""
    known = [(truth(r) == target_counts(r), is_right(r, judge)) for r in _labelled(records) if judge in r.judges]
    return JudgeErrors(
        right=sum(right for right, _ in known),
        right_found=sum(right and found_right for right, found_right in known),
        wrong=sum(not right for right, _ in known),
        wrong_found=sum(not right and not found_right for right, found_right in known),
    )


def corrected(right: int, images: int, labelled: JudgeErrors) -> Corrected:
    """Return an accuracy corrected by labels of some of the same images, with a 95 % interval for both samples.

    The labelled images must be a random sample of the images; nothing else is assumed of the judge. NaN without labels.

    Args:
        right: number of images that the judge finds right.
        images: number of all images that it judged, labelled or not.
        labelled: the judge on those that are labelled.

    Source: Tenenbein 1970 (double sampling); half a case is added to each cell, as in Jeffreys' interval.
    """
    if not images or not labelled.right + labelled.wrong:
        return Corrected(math.nan, math.nan, math.nan)
    all_found = labelled.right_found + labelled.wrong - labelled.wrong_found
    n_found, n_others = all_found + 1, labelled.right + labelled.wrong - all_found + 1
    share = right / images
    of_found = (labelled.right_found + 0.5) / n_found
    of_others = (labelled.right - labelled.right_found + 0.5) / n_others
    accuracy = share * of_found + (1 - share) * of_others
    variance = share * (1 - share) / images * (of_found - of_others) ** 2
    variance += share**2 * of_found * (1 - of_found) / n_found
    variance += (1 - share) ** 2 * of_others * (1 - of_others) / n_others
    half = _Z * math.sqrt(variance)
    return Corrected(*(min(1.0, max(0.0, value)) for value in (accuracy, accuracy - half, accuracy + half)))


def corrected_accuracies(records: Sequence[Record], judges: Sequence[str]) -> dict[str, Corrected]:
    """Return the corrected accuracy of one method's generated images by each judge that counted labelled ones."""
    accuracies = {}
    for judge in judges:
        judged, errors = scores(records, judge), judge_errors(records, judge)
        if errors.right + errors.wrong and not judge.startswith(HUMAN):
            accuracies[judge] = corrected(judged.right, judged.images - judged.failed, errors)
    return accuracies


def calibration(records: Sequence[Record], judges: Sequence[str]) -> Calibration | None:
    """Return what people's labels say about judges; None without labels.

    Args:
        records: of one suite and backbone, with labels.
        judges: independent ones, the first decides.
    """
    known = _labelled(records)
    if not known:
        return None
    votes = grouped(known, lambda record: sum(is_right(record, judge) for judge in judges) / len(judges))
    levels = []
    for share, group in sorted(votes.items()):
        right = sum(truth(record) == target_counts(record) for record in group)
        levels.append(Level(share, len(group), right, wilson_interval(right, len(group))))
    return Calibration(len(known), {judge: judge_errors(known, judge) for judge in judges}, tuple(levels))


def _labelled(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if truth(record) is not None]
