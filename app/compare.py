"""`countgen compare`: what changed between two evaluations, on the cases that both have."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from countgen.app.argument_types import not_negative
from countgen.app.exit_codes import OK
from countgen.app.terminal import fitted

if TYPE_CHECKING:
    from countgen.benchmarks.evaluation.run_comparison import Change, RunComparison

_LONGEST_VALUE = 100


def add_parser(commands: Any) -> None:
    """Add the command to the sub-parsers."""
    parser = commands.add_parser(
        "compare",
        help="compare two evaluations",
        description="Compare two run folders, each method with itself on the cases of both: settings that differ, "
        "accuracy by each judge of both with exact McNemar tests, and the cases that only one run gets right.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("first", type=Path, metavar="RUN_A", help="a folder that `countgen eval` wrote")
    parser.add_argument("second", type=Path, metavar="RUN_B", help="another one")
    parser.add_argument(
        "--cases", type=not_negative, default=10, metavar="N", help="changed cases that are listed (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, all changed cases included")


def run(options: argparse.Namespace) -> int:
    """Compare two runs and return 0.

    Raises:
        ValueError: no run, or nothing that both have.
    """
    from countgen.benchmarks.evaluation.report.export import plain
    from countgen.benchmarks.evaluation.report.reported_run import read_reported_run
    from countgen.benchmarks.evaluation.run_comparison import compare_runs

    found = compare_runs(read_reported_run([options.first]), read_reported_run([options.second]))
    if options.json:
        print(json.dumps(plain(found), allow_nan=False))
    else:
        print("\n".join(_text(found, options.cases)))
    return OK


def _text(found: RunComparison, cases: int) -> Iterator[str]:
    from countgen.benchmarks.evaluation.report.table import Table, as_text, number, p_text
    from countgen.files.printable import printable

    for name, (first, second) in found.settings.items():
        yield fitted(f"{name}: {printable(first, _LONGEST_VALUE)} -> {printable(second, _LONGEST_VALUE)}")
    for word, names in (("first", found.only_first), ("second", found.only_second)):
        if names:
            yield fitted(f"only in the {word} run: {printable(', '.join(names), _LONGEST_VALUE)}")
    rows = []
    for one in found.pairings:
        total, accuracy = one.comparison.duel.cases, one.comparison.accuracy
        rows.append(
            (
                f"{one.method}, by {one.judge}",
                f"{one.first} -> {one.second} of {total}",
                f"{number(100 * accuracy.mean, 1)} [{number(100 * accuracy.low, 1)}, {number(100 * accuracy.high, 1)}]",
                f"{one.comparison.duel.won}:{one.comparison.duel.lost}",
                p_text(one.adjusted_p),
            )
        )
    note = (
        "Right images on the cases of both runs; points with the 95 % cluster bootstrap interval by prompt; won and "
        "lost: right in the second, in the first run only; p of the exact McNemar test, by Holm."
    )
    header = ("", "right", "points", "won:lost", "p")
    yield as_text(Table("Second run against the first", header, tuple(rows), note), get_terminal_size().columns)
    judge = found.pairings[0].judge
    better = sum(one.better for one in found.changes)
    yield fitted(f"by {judge}, {better} cases became right and {len(found.changes) - better} wrong")
    yield from (fitted(f"  {_line(one)}", hang=4) for one in found.changes[:cases])
    if len(found.changes) > cases:
        yield fitted(f"  and {len(found.changes) - cases} more; --cases N lists more, --json all")


def _line(change: Change) -> str:
    from countgen.files.printable import printable

    first, second = (
        "no count" if counts is None else " and ".join(map(str, counts)) for counts in (change.first, change.second)
    )
    wanted = " and ".join(f"{count} x {name}" for name, count in change.targets.items())
    verdict = "right" if change.better else "WRONG"
    return printable(
        f"{verdict}: {change.method}, seed {change.seed}, {first} -> {second} of {wanted}: {change.prompt}", 300
    )
