"""The comparison of two runs as lines and a table."""

from __future__ import annotations

from collections.abc import Iterator

from countgen.benchmarks.evaluation.report.table import Table, interval, number, p_text
from countgen.benchmarks.evaluation.run_comparison import Change, RunComparison
from countgen.files.printable import printable

_LONGEST_VALUE = 100


def differences(compared: RunComparison) -> Iterator[str]:
    """Yield a line for each setting that differs, and the methods that only one run has."""
    for name, values in compared.settings.items():
        before, after = (printable(value, _LONGEST_VALUE) for value in values)
        yield f"{name}: {before} -> {after}"
    for word, methods in (("first", compared.only_first), ("second", compared.only_second)):
        if methods:
            yield f"only in the {word} run: {printable(', '.join(methods), _LONGEST_VALUE)}"


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
