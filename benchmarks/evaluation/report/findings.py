"""Compute all figures of a report once, for text, page and JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from countgen.benchmarks.evaluation.calibration import (
    Calibration,
    Corrected,
    calibration,
    corrected_accuracies,
)
from countgen.benchmarks.evaluation.comparison import Agreement, Comparison, agreement, compare, with_holm
from countgen.benchmarks.evaluation.compute import Curve, compute_curve
from countgen.benchmarks.evaluation.consensus import CONSENSUS, with_consensus
from countgen.benchmarks.evaluation.metrics import (
    HUMAN,
    Preservation,
    Scores,
    by_arm,
    by_count,
    by_level,
    evaluated_by,
    grouped,
    is_right,
    preservation,
    scores,
    steered,
)
from countgen.benchmarks.evaluation.records import Record
from countgen.benchmarks.evaluation.reliability import Reliability, by_probability, of_confirmed
from countgen.benchmarks.evaluation.report.reported_run import ReportedRun

BASELINES = ("search", "plain")
"""Baselines by default: best-of-N where the run has it, otherwise the plain model."""

AXES = ("evaluations", "seconds")


@dataclass(frozen=True)
class Spent:
    """The cost of images.

    Attributes:
        evaluations, seconds: mean per image; all seconds are NaN if those of an image are unknown.
        seconds_per_right: total seconds over the number of images right by the first judge; infinite without any.
        peak_bytes: maximum; None where unknown.
    """

    evaluations: float
    seconds: float
    seconds_per_right: float
    peak_bytes: int | None


@dataclass(frozen=True)
class MethodFindings:
    """The results of one method.

    Attributes:
        name: of the method.
        scores: by judge, of all images.
        levels, counts: by level and by number of objects, by the first judge.
        confirmed: images whose probability of a right count was high enough for the run.
        confirmed_wrong: of these, wrong by the first judge.
        reliability, reliability_of_confirmed: of P(right) by the first judge, see
            `countgen.benchmarks.evaluation.reliability`.
        spent, curves: cost of accuracy; curves by axis.
        preservation: of the plain images; None where no record has the measures.
        truncated: images whose prompt a text encoder truncated; None where no record states it.
        corrected: accuracy by judge, corrected by people's labels; empty without labels.
    """

    name: str
    scores: dict[str, Scores]
    levels: dict[str, Scores]
    counts: dict[int, Scores]
    confirmed: int
    confirmed_wrong: int
    reliability: dict[float, Reliability]
    reliability_of_confirmed: dict[str, Reliability]
    spent: Spent
    curves: dict[str, Curve]
    preservation: Preservation | None
    truncated: int | None
    corrected: dict[str, Corrected]


@dataclass(frozen=True)
class Versus:
    """The comparison of a method with an opponent on the same cases.

    Attributes:
        method, opponent: names.
        comparison: its result.
        adjusted_p: McNemar's p-value, adjusted by Holm for all comparisons of the table.
    """

    method: str
    opponent: str
    comparison: Comparison
    adjusted_p: float


@dataclass(frozen=True)
class Section:
    """The results of one backbone on one suite.

    Attributes:
        suite, backbone: names.
        judges: detectors and people that counted; the first decides, the first critic is last of the detectors.
        steered: those of them that steered the images.
        methods: in the order of the run.
        versus: every method against the baseline, by every judge that did not steer, and by the first one always.
        calibration: what people's labels say about the independent judges; None without labels.
        agreements: by two judges, "first & second"; consensus has none, as it repeats their counts.
        failures: number of failed images, by reason.
    """

    suite: str
    backbone: str
    judges: tuple[str, ...]
    steered: tuple[str, ...]
    methods: tuple[MethodFindings, ...]
    versus: dict[str, tuple[Versus, ...]]
    calibration: Calibration | None
    agreements: dict[str, Agreement]
    failures: dict[str, int]


def findings(run: ReportedRun, *, baseline: str | None = None) -> list[Section]:
    """Return a section for each backbone and suite of a run.

    Args:
        run: to report.
        baseline: the method that the others are compared with; best-of-N by default.

    Raises:
        ValueError: a baseline that the run does not have.
    """
    by_section = grouped(run.records, lambda record: (record.backbone, record.suite))
    return [_section(with_consensus(records), baseline) for records in by_section.values()]


def judges_of(records: Sequence[Record]) -> tuple[str, ...]:
    """Return all sources of counts: the judges, the first critic, people."""
    names = dict.fromkeys(judge for record in records for judge in record.judges)
    people = [name for name in names if name.startswith(HUMAN)]
    critics = dict.fromkeys(record.critics[0] for record in records if record.critics)
    return tuple(dict.fromkeys((*(name for name in names if name not in people), *critics, *people)))


def raters_of(judges: Sequence[str]) -> list[str]:
    """Return all sources of counts but what others agree on."""
    return [judge for judge in judges if judge not in CONSENSUS]


def _section(records: Sequence[Record], baseline: str | None) -> Section:
    judges = judges_of(records)
    arms = by_arm(records)
    baseline = baseline or next((name for name in BASELINES if name in arms), next(iter(arms)))
    if baseline not in arms:
        raise ValueError(f"the run has no method {baseline!r} to compare with; it has {', '.join(arms)}")
    steering = tuple(judge for judge in judges if any(steered(record, judge) for record in records))
    independent = [judge for judge in judges if judge == judges[0] or judge not in steering]
    raters = raters_of(judges)
    detectors = [judge for judge in independent if judge in raters and not judge.startswith(HUMAN)]
    agreements = {f"{a} & {b}": agreement(records, a, b) for a, b in combinations(raters, 2)}
    return Section(
        suite=records[0].suite,
        backbone=records[0].backbone,
        judges=judges,
        steered=steering,
        methods=tuple(_method(name, arms[name], judges) for name in arms),
        versus={judge: versus for judge in independent if (versus := _versus(arms, baseline, judge))},
        calibration=calibration(records, detectors),
        agreements={pair: agreed for pair, agreed in agreements.items() if agreed.counts},
        failures=dict(Counter(record.error or "unknown" for record in records if record.status == "failed")),
    )


def _versus(arms: Mapping[str, Sequence[Record]], baseline: str, judge: str) -> tuple[Versus, ...]:
    compared = {name: compare(arms[name], arms[baseline], judge) for name in arms if name != baseline}
    return tuple(Versus(name, baseline, comparison, p_value) for name, comparison, p_value in with_holm(compared))


def _method(name: str, records: Sequence[Record], judges: Sequence[str]) -> MethodFindings:
    first = judges[0]
    confirmed = [record for record in records if record.confirmed]
    truncated = [record.truncated for record in records if record.truncated is not None]
    return MethodFindings(
        name=name,
        scores={judge: scores(records, judge) for judge in judges if evaluated_by(records, judge)},
        levels={level: scores(group, first) for level, group in by_level(records).items()},
        counts={count: scores(group, first) for count, group in by_count(records).items()},
        confirmed=len(confirmed),
        confirmed_wrong=sum(not is_right(record, first) for record in confirmed),
        reliability=by_probability(records, first),
        reliability_of_confirmed=of_confirmed(records, first),
        spent=_spent(records, first),
        curves={axis: compute_curve(records, axis) for axis in AXES},
        preservation=preservation(records),
        truncated=sum(truncated) if truncated else None,
        corrected=corrected_accuracies(records, judges),
    )


def _spent(records: Sequence[Record], judge: str) -> Spent:
    done = [record for record in records if record.status == "done"]
    right = sum(is_right(record, judge) for record in done)
    seconds = [math.nan if record.seconds is None else record.seconds for record in done]
    return Spent(
        evaluations=fmean(record.evaluations for record in done) if done else math.nan,
        seconds=fmean(seconds) if done else math.nan,
        seconds_per_right=sum(seconds) / right if right else math.inf,
        peak_bytes=max((record.peak_bytes for record in done if record.peak_bytes is not None), default=None),
    )
