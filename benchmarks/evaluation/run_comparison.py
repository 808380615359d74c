"""Compare two runs case by case: settings that differ, paired tests by method and judge, cases whose result changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from countgen.benchmarks.evaluation.comparison import Comparison, compare, pairs
from countgen.benchmarks.evaluation.consensus import CONSENSUS, with_consensus
from countgen.benchmarks.evaluation.metrics import by_arm, counts, evaluated_by, is_right, steered
from countgen.benchmarks.evaluation.records import Record, differing_settings
from countgen.benchmarks.evaluation.report.reported_run import ReportedRun
from countgen.benchmarks.evaluation.statistics import holm

_DETAIL = ("suite_sha256", "shard")
"""Settings that say nothing to a reader: the suite's digest, and part of a run."""


@dataclass(frozen=True)
class Pairing:
    """One method in two runs, by one judge, on the cases of both.

    Attributes:
        method, judge: names; two methods are "plain -> auto".
        first, second: number of the paired cases right in each run.
        comparison: second run against the first: won are right in the second only.
        adjusted_p: McNemar's p-value, by Holm over all pairings.
    """

    method: str
    judge: str
    first: int
    second: int
    comparison: Comparison
    adjusted_p: float


@dataclass(frozen=True)
class Change:
    """A case that the judge finds right in one run only.

    Attributes:
        method, prompt, seed: of the case.
        targets: counts asked for.
        first, second: the judge's counts in the two runs; None for a failed image or no answer.
        better: right in the second run.
    """

    method: str
    prompt: str
    seed: int
    targets: dict[str, int]
    first: tuple[int, ...] | None
    second: tuple[int, ...] | None
    better: bool


@dataclass(frozen=True)
class RunComparison:
    """The comparison of two runs.

    Attributes:
        settings: that differ: the value in the first and in the second run.
        only_first, only_second: methods that one run has; they are not compared.
        pairings: by method, then judge; the first judge that both share decides about changes.
        changes: by that judge.
    """

    settings: dict[str, tuple[Any, Any]]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    pairings: tuple[Pairing, ...]
    changes: tuple[Change, ...]


def compare_runs(first: ReportedRun, second: ReportedRun) -> RunComparison:
    """Compare two runs on the cases (prompt, targets and seed) that both have.

    A method is compared with itself; where each run has one method only, with that of the other run.

    Raises:
        ValueError: no method, judge or case in common.
    """
    before, after = (by_arm(with_consensus(run.records)) for run in (first, second))
    if len(before) == len(after) == 1 and before.keys() != after.keys():
        name = " -> ".join((*before, *after))
        before, after = ({name: records} for arms in (before, after) for records in arms.values())
    compared = [
        (name, judge, compare(after[name], before[name], judge))
        for name in before
        if name in after
        for judge in _shared_judges(before[name], after[name])
    ]
    compared = [(name, judge, comparison) for name, judge, comparison in compared if comparison.duel.cases]
    if not compared:
        raise ValueError(
            f"{first.name} and {second.name} share no case by a method and a judge of both: methods "
            f"{', '.join(before)} and {', '.join(after)}; judges {_judges(first)} and {_judges(second)}; give runs of "
            "one suite and seeds, or add a judge with countgen eval --rejudge"
        )
    pairings, changes = [], []
    adjusted = holm([comparison.duel.p_value for _, _, comparison in compared])
    for (name, judge, comparison), p_value in zip(compared, adjusted, strict=True):
        both = pairs(evaluated_by(before[name], judge), evaluated_by(after[name], judge))
        first_right, second_right = (sum(is_right(pair[run], judge) for pair in both) for run in (0, 1))
        pairings.append(Pairing(name, judge, first_right, second_right, comparison, p_value))
        if judge == compared[0][1]:
            changes += [_change(name, judge, a, b) for a, b in both if is_right(a, judge) != is_right(b, judge)]
    differing = [name for name in differing_settings(first.settings, second.settings) if name not in _DETAIL]
    return RunComparison(
        settings={name: (first.settings.get(name), second.settings.get(name)) for name in differing},
        only_first=tuple(name for name in before if name not in after),
        only_second=tuple(name for name in after if name not in before),
        pairings=tuple(pairings),
        changes=tuple(changes),
    )


def _judges(run: ReportedRun) -> str:
    return ", ".join(dict.fromkeys(judge for record in run.records for judge in record.judges))


def _shared_judges(first: Sequence[Record], second: Sequence[Record]) -> list[str]:
    """Return the judges of both that did not steer, the deciding one first; consensus only of the same judges."""
    records = (*first, *second)
    others = {judge for record in second for judge in record.judges}
    names = dict.fromkeys(judge for record in first for judge in record.judges if judge in others)
    same_judges = len({frozenset(record.judges) for record in records}) == 1
    return [
        name
        for name in names
        if (same_judges or name not in CONSENSUS) and not any(steered(record, name) for record in records)
    ]


def _change(method: str, judge: str, first: Record, second: Record) -> Change:
    return Change(
        method=method,
        prompt=first.prompt,
        seed=first.seed,
        targets=dict(first.wanted),
        first=counts(first, judge),
        second=counts(second, judge),
        better=is_right(second, judge),
    )
