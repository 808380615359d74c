"""Compare two runs case by case: settings that differ, paired tests by method and judge, cases whose result changed.

`differences`, `pairings` and `changes` show a comparison as lines and a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from countgen.benchmarks.evaluation.comparison import Comparison, compare, pairs, with_holm
from countgen.benchmarks.evaluation.consensus import CONSENSUS, with_consensus
from countgen.benchmarks.evaluation.metrics import by_arm, counts, evaluated_by, is_right, steered
from countgen.benchmarks.evaluation.records import Record, differing_settings
from countgen.benchmarks.evaluation.report.reported_run import ReportedRun
from countgen.benchmarks.evaluation.report.table import Table, interval, number, p_text
from countgen.files.printable import printable

_DETAIL = ("suite_sha256", "shard")
"""Settings that say nothing to a reader: the suite's digest, and part of a run."""
_LONGEST_VALUE = 100


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
        pairings: by method, then judge; the first judge that both share decides about changes.
        changes: by that judge.
    """

    settings: dict[str, tuple[Any, Any]]
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
    compared = with_holm(
        {
            (name, judge): compare(after[name], before[name], judge)
            for name in before
            if name in after
            for judge in _shared_judges(before[name], after[name])
        }
    )
    if not compared:
        judges = [", ".join(dict.fromkeys(name for r in run.records for name in r.judges)) for run in (first, second)]
        raise ValueError(
            f"{first.name} and {second.name} share no case by a method and a judge of both: methods "
            f"{', '.join(before)} and {', '.join(after)}; judges {' and '.join(judges)}; give runs of one suite and "
            "seeds, or add a judge with countgen eval --rejudge"
        )
    by_method, changed = [], []
    for (name, judge), comparison, p_value in compared:
        both = pairs(evaluated_by(before[name], judge), evaluated_by(after[name], judge))
        first_right, second_right = (sum(is_right(pair[run], judge) for pair in both) for run in (0, 1))
        by_method.append(Pairing(name, judge, first_right, second_right, comparison, p_value))
        if judge == by_method[0].judge:
            changed += [
                Change(name, a.prompt, a.seed, a.wanted, counts(a, judge), counts(b, judge), is_right(b, judge))
                for a, b in both
                if is_right(a, judge) != is_right(b, judge)
            ]
    differing = [name for name in differing_settings(first.settings, second.settings) if name not in _DETAIL]
    return RunComparison(
        settings={name: (first.settings.get(name), second.settings.get(name)) for name in differing},
        pairings=tuple(by_method),
        changes=tuple(changed),
    )


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


def differences(compared: RunComparison) -> Iterator[str]:
    """Yield a line for each setting that differs."""
    for name, values in compared.settings.items():
        before, after = (printable(value, _LONGEST_VALUE) for value in values)
        yield f"{name}: {before} -> {after}"


def pairings(compared: RunComparison) -> Table:
    """Return the table of paired tests."""
    rows = []
    for pairing in compared.pairings:
        accuracy, duel = pairing.comparison.accuracy, pairing.comparison.duel
        rows.append(
            (
                f"{pairing.method}, by {pairing.judge}",
                f"{pairing.first} -> {pairing.second} of {duel.cases}",
                f"{number(100 * accuracy.mean, 1)} {interval(accuracy.low, accuracy.high, digits=1)}",
                f"{duel.won}:{duel.lost}",
                p_text(pairing.adjusted_p),
            )
        )
    note = (
        "Right images on the cases of both runs; points with the 95 % cluster bootstrap interval by prompt; won and "
        "lost: right in the second, in the first run only; p of the exact McNemar test, by Holm."
    )
    return Table("Second run against the first", ("", "right", "points", "won:lost", "p"), tuple(rows), note)


def changes(compared: RunComparison, limit: int) -> Iterator[str]:
    """Yield how many cases changed, and a line for each of the first ones."""
    better = sum(change.better for change in compared.changes)
    judge = compared.pairings[0].judge
    yield f"by {judge}, {better} cases became right and {len(compared.changes) - better} wrong"
    for change in compared.changes[:limit]:
        yield f"  {_line(change)}"
    if len(compared.changes) > limit:
        yield f"  and {len(compared.changes) - limit} more; --cases N lists more, --json all"


def _line(change: Change) -> str:
    first, second = (
        "no count" if counts is None else " and ".join(map(str, counts)) for counts in (change.first, change.second)
    )
    wanted = " and ".join(f"{count} x {name}" for name, count in change.targets.items())
    verdict = "right" if change.better else "WRONG"
    line = f"{verdict}: {change.method}, seed {change.seed}, {first} -> {second} of {wanted}: {change.prompt}"
    return printable(line, 300)
