"""Compare two runs case by case: settings that differ, paired tests by method and judge, cases whose result changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """Compare two runs on the cases (suite, prompt, targets and seed) that both have.

    A method is compared with itself; where each run has one method only, with that of the other run.

    Raises:
        ValueError: no method, judge or case in common.
    """
    mine, other = (by_arm(with_consensus(run.records)) for run in (first, second))
    if len(mine) == len(other) == 1 and mine.keys() != other.keys():
        ((one, records),), ((two, theirs),) = mine.items(), other.items()
        mine, other = {f"{one} -> {two}": records}, {f"{one} -> {two}": theirs}
    arms = [(name, mine[name], other[name]) for name in mine if name in other]
    found = [(name, judge, a, b) for name, a, b in arms for judge in _shared_judges(a, b)]
    compared = [(name, judge, a, b, compare(b, a, judge)) for name, judge, a, b in found]
    compared = [one for one in compared if one[4].duel.cases]
    if not compared:
        raise ValueError(
            f"{first.name} and {second.name} share no case by a method and a judge of both: methods "
            f"{', '.join(mine)} and {', '.join(other)}; judges {_named(first)} and {_named(second)}; give runs of one "
            "suite and seeds, or add a judge with countgen eval --rejudge"
        )
    adjusted = holm([one[4].duel.p_value for one in compared])
    return RunComparison(
        settings=_differing(first.settings, second.settings),
        only_first=tuple(name for name in mine if name not in other),
        only_second=tuple(name for name in other if name not in mine),
        pairings=tuple(_pairing(*one, p) for one, p in zip(compared, adjusted, strict=True)),
        changes=tuple(_changes(compared)),
    )


def _named(run: ReportedRun) -> str:
    return ", ".join(dict.fromkeys(judge for record in run.records for judge in record.judges))


def _shared_judges(first: Sequence[Record], second: Sequence[Record]) -> list[str]:
    """Return the judges of both, the deciding one first; none that steered, and no consensus of other judges."""
    theirs = {judge for record in second for judge in record.judges}
    names = dict.fromkeys(judge for record in first for judge in record.judges if judge in theirs)
    same = {frozenset(record.judges) for record in (*first, *second)}
    return [
        name
        for name in names
        if not any(steered(record, name) for record in (*first, *second)) and (name not in CONSENSUS or len(same) == 1)
    ]


def _pairing(
    name: str, judge: str, first: Sequence[Record], second: Sequence[Record], comparison: Comparison, p: float
) -> Pairing:
    both = pairs(evaluated_by(first, judge), evaluated_by(second, judge))
    return Pairing(
        method=name,
        judge=judge,
        first=sum(is_right(a, judge) for a, _ in both),
        second=sum(is_right(b, judge) for _, b in both),
        comparison=comparison,
        adjusted_p=p,
    )


def _changes(compared: Sequence[tuple[str, str, list[Record], list[Record], Comparison]]) -> list[Change]:
    judge = compared[0][1]
    return [
        Change(
            method=name,
            prompt=a.prompt,
            seed=a.seed,
            targets={target.object_name: target.target_count for target in a.targets},
            first=counts(a, judge),
            second=counts(b, judge),
            better=is_right(b, judge),
        )
        for name, by, first, second, _ in compared
        if by == judge
        for a, b in pairs(evaluated_by(first, judge), evaluated_by(second, judge))
        if is_right(a, judge) != is_right(b, judge)
    ]


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = [name for name in differing_settings(first, second) if name not in _DETAIL]
    return {name: (first.get(name), second.get(name)) for name in names}
