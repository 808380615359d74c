"""Score a judge on the golden set: generated images whose objects a reader counted (`benchmarks/golden`).

Its README says who the reader is. The set is a run folder, so that reports, labels and `--rejudge` read it too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from countgen.benchmarks.evaluation.consensus import majority
from countgen.benchmarks.evaluation.judges import answered, judged
from countgen.benchmarks.evaluation.labels import read_labels
from countgen.benchmarks.evaluation.records import read_run
from countgen.benchmarks.evaluation.statistics import wilson_interval
from countgen.critics import Critic
from countgen.critics.validation import to_batch
from countgen.files.image_file import open_image

FOLDER = Path(__file__).parents[1] / "golden"
READER = "reader"
MANY = 13
"""Counts from here on share a row."""

Answers = Mapping[str, tuple[int, ...] | None]
"""A judge's counts by the image's key, for each of its classes; None for no answer."""

_Case = tuple[int, int | None]
"""The reader's count of a class in an image, and the judge's."""


@dataclass(frozen=True)
class GoldenImage:
    """An image and the counts of the reader in it.

    Attributes:
        key: of its record.
        path: of the image.
        object_names: classes that were counted.
        counts: of the reader, per class; None where they could not count it.
        critics: detectors that steered it; none for a plain image.
    """

    key: str
    path: Path
    object_names: tuple[str, ...]
    counts: tuple[int | None, ...]
    critics: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """How a judge counts some of the set.

    Attributes:
        label: "3", "13+", "all", ...
        cases: number of counts of the reader: one for each image and class.
        exact: of these, those that the judge gives too; a judge without an answer is not exact.
        unanswered: of these, those to which the judge gives no answer.
        interval: 95 % Wilson interval of the fraction exact, in [0, 1].
        bias: mean of the judge's count less the reader's; NaN without answers.
    """

    label: str
    cases: int
    exact: int
    unanswered: int
    interval: tuple[float, float]
    bias: float


def golden_images() -> list[GoldenImage]:
    """Return the images of the set."""
    given = {label.key: label.counts for label in read_labels(FOLDER) if label.labeller == READER}
    return [
        GoldenImage(
            key=record.key,
            path=FOLDER / str(record.image),
            object_names=tuple(target.object_name for target in record.targets),
            counts=given[record.key],
            critics=() if record.method == "plain" else record.critics,
        )
        for record in read_run(FOLDER)[1]
    ]


def known_images(judge: Critic, images: Sequence[GoldenImage]) -> list[GoldenImage]:
    """Return the images all of whose classes the judge knows.

    Raises:
        ValueError: it knows none of them.
    """
    known = []
    for image in images:
        with suppress(ValueError):
            judge.check_distinct(image.object_names)
            known.append(image)
    if not known:
        names = sorted({name for image in images for name in image.object_names})
        raise ValueError(f"{judge.name} knows none of the set's classes: {', '.join(names)}; name another judge")
    return known


def answers(
    judge: Critic, images: Sequence[GoldenImage], device: str = "cpu"
) -> Iterator[tuple[str, tuple[int, ...] | None]]:
    """Yield the key of each image and the judge's counts in it, None for no answer."""
    for image in images:
        batch = to_batch(open_image(image.path)).to(device)
        yield image.key, answered(judged(judge, batch, image.object_names)[0][0])


def majority_answers(judges: Sequence[Answers]) -> dict[str, tuple[int, ...] | None]:
    """Return the counts of more than half of the judges, of the images that all of them know."""
    keys = [key for key in judges[0] if all(key in answers for answers in judges)]
    return {key: majority([answers[key] for answers in judges]) for key in keys}


def rows(images: Sequence[GoldenImage], answers: Answers) -> list[Row]:
    """Return how a judge counts, by the reader's count, then in kinds of images, then in all.

    Args:
        images: of the set.
        answers: of the judge; images that it lacks are left out.
    """
    by_count: dict[int, list[_Case]] = {}
    kinds: dict[str, list[_Case]] = {"plain": [], "steered": [], "two classes": [], "all": []}
    for image in images:
        if image.key not in answers:
            continue
        names = ["steered" if image.critics else "plain", "all"] + ["two classes"] * (len(image.object_names) > 1)
        for truth, count in zip(image.counts, answers[image.key] or (None,) * len(image.counts), strict=True):
            if truth is not None:
                for group in (by_count.setdefault(min(truth, MANY), []), *(kinds[name] for name in names)):
                    group.append((truth, count))
    counted = {f"{count}+" if count == MANY else str(count): by_count[count] for count in sorted(by_count)}
    return [_row(label, cases) for label, cases in (counted | kinds).items() if cases]


def _row(label: str, cases: Sequence[_Case]) -> Row:
    exact = sum(truth == count for truth, count in cases)
    errors = [count - truth for truth, count in cases if count is not None]
    return Row(
        label=label,
        cases=len(cases),
        exact=exact,
        unanswered=len(cases) - len(errors),
        interval=wilson_interval(exact, len(cases)),
        bias=fmean(errors) if errors else math.nan,
    )


def table(scores: Sequence[Row]) -> list[str]:
    """Return the lines of a table of rows: label, cases, per cent exact with its interval, bias, no answer."""
    lines = [f"  {'count':<12}{'cases':>6}   exact % [95 %]    bias   no answer"]
    for row in scores:
        low, high = (round(100 * end) for end in row.interval)
        exact = f"{100 * row.exact / row.cases:.0f} [{low}, {high}]"
        bias = "-" if math.isnan(row.bias) else f"{row.bias:+.2f}"
        lines.append(f"  {row.label:<12}{row.cases:>6}   {exact:<14}{bias:>8}{row.unanswered or '':>12}".rstrip())
    return lines
