"""The registered study of what seeds cannot do: keep the image, and reach counts that the model never learned.

docs/study-plan.md says what was fixed before it ran. `python -m benchmarks.studies.beyond_seeds write` makes the suites
again, `commands` prints what to run, `sizes` which differences the study can see, and `results` prints tables and tests
of the records in benchmarks/results/beyond-seeds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean

import numpy as np

from benchmarks.evaluation.comparison import pairs
from benchmarks.evaluation.metrics import absolute_error, by_arm, is_right, same_and_right, total
from benchmarks.evaluation.records import Record, read_run
from benchmarks.evaluation.report.table import p_text
from benchmarks.evaluation.statistics import Duel, duel, holm, mcnemar_exact, rate
from benchmarks.studies.markdown import table
from countgen.miniature.world import OBJECT_NAMES
from countgen.prompts.number_words import number_word
from countgen.prompts.plurals import counted

SUITES = Path("benchmarks/studies/suites")
RECORDS = Path("benchmarks/results/beyond-seeds")
FIRST_SEED = 80_000_000
MAX_EVALUATIONS = 60

Check = Callable[[Record], bool]


@dataclass(frozen=True)
class Part:
    """A part of the study: one suite and one run of the evaluator.

    Attributes:
        model: preset.
        classes: object classes of a prompt, 1 or 2.
        totals: numbers of objects, of all classes together.
        each: cases of each total.
        methods: arms.
    """

    model: str
    classes: int
    totals: range
    each: int
    methods: tuple[str, ...]


WORDS, BEYOND = range(1, 13), range(13, 17)
"""Counts that captions of the training said, and counts that none did."""
PARTS = {
    "words": Part("miniature", 1, WORDS, 24, ("plain", "search", "noise", "lmn", "edit", "auto")),
    "beyond": Part("miniature", 1, BEYOND, 24, ("plain", "search+as-written", "search", "auto+as-written", "auto")),
    "two-classes": Part("miniature", 2, range(2, 11), 24, ("plain", "search", "edit", "auto")),
    "pixart-words": Part("miniature-pixart", 1, WORDS, 12, ("plain", "search", "edit", "auto")),
    "pixart-beyond": Part("miniature-pixart", 1, BEYOND, 12, ("plain", "search+as-written", "search", "auto")),
    "far-beyond": Part("miniature", 1, range(17, 21), 8, ("plain", "search", "auto")),
}
"""Parts of the study in the order in which they run."""


@dataclass(frozen=True)
class Hypothesis:
    """A difference that is tested: of the cases with these totals, one arm has more right than another.

    Attributes:
        part, totals: the cases.
        first, second: arms.
        same: whether right also means the same image, see `benchmarks.evaluation.metrics.same_and_right`.
    """

    part: str
    totals: range
    first: str
    second: str
    same: bool = False

    def holds(self, record: Record) -> bool:
        """Return whether an image is what is counted, by the first judge."""
        return same_and_right(record) if self.same else is_right(record, record.judges[0])


HYPOTHESES = (
    Hypothesis("words", range(4, 13), "edit", "search", same=True),
    Hypothesis("words", range(4, 13), "edit", "plain", same=True),
    Hypothesis("words", range(4, 13), "edit", "noise", same=True),
    Hypothesis("words", range(6, 13), "auto", "search"),
    Hypothesis("words", range(6, 13), "auto", "noise"),
    Hypothesis("beyond", range(13, 16), "search", "search+as-written"),
    Hypothesis("beyond", range(13, 16), "auto", "auto+as-written"),
    Hypothesis("beyond", BEYOND, "auto", "search"),
    Hypothesis("two-classes", range(2, 11), "auto", "search"),
    Hypothesis("two-classes", range(4, 11), "edit", "search", same=True),
    Hypothesis("pixart-words", range(4, 13), "edit", "search", same=True),
    Hypothesis("pixart-beyond", range(13, 16), "search", "search+as-written"),
)
"""Two-sided exact McNemar tests, with Holm's correction over all of them."""

GROUPS = (range(1, 6), range(4, 13), range(6, 11), range(11, 13), range(13, 16), range(16, 17), range(17, 21))
"""Totals that the tables put together, besides every total alone."""


def cases(part: Part) -> Iterator[dict[str, object]]:
    """Yield the rows of a part's suite: prompt, targets and the case's own seed, the first of each total first."""
    start = FIRST_SEED + 1_000_000 * [*PARTS.values()].index(part)
    for number in range(part.each):
        for objects in part.totals:
            seed = start + 1000 * objects + number
            if part.classes == 1:  # no object class comes twice for one total
                order = np.random.default_rng(start + objects).permutation(len(OBJECT_NAMES))
                chosen, counts = [order[number]], [objects]
            else:
                rng = np.random.default_rng(seed)
                chosen = [*rng.choice(len(OBJECT_NAMES), 2, replace=False)]
                first = int(rng.integers(1, objects))
                counts = [first, objects - first]
            targets = {OBJECT_NAMES[one]: count for one, count in zip(chosen, counts, strict=True)}
            said = " and ".join(f"{number_word(count)} {counted(name, count)}" for name, count in targets.items())
            yield {"prompt": f"a photo of {said}", "targets": targets, "tags": {"seed": str(seed)}}


def write() -> None:
    """Write the suites."""
    for name, part in PARTS.items():
        lines = "".join(json.dumps(row) + "\n" for row in cases(part))
        (SUITES / f"{name}.jsonl").write_text(lines, "utf-8")


def commands() -> None:
    """Print the command of every part."""
    for name, part in PARTS.items():
        print(
            f"countgen eval --suite {SUITES / name}.jsonl --model {part.model} --methods {','.join(part.methods)} "
            f"--max-evaluations {MAX_EVALUATIONS} --threads 1 --out runs/{name}"
        )


def sizes() -> None:
    """Print the smallest difference in percentage points that each test finds in 80 % of the studies."""
    rows = []
    for test in HYPOTHESES:
        n = PARTS[test.part].each * len(test.totals)
        rows.append((title(test), str(n), f"{100 * detectable(n, 0):.0f}", f"{100 * detectable(n, 0.1):.0f}"))
    print(table(("test", "cases", "where none goes the other way", "where 10 % go the other way"), rows))


def detectable(n: int, lost: float, level: float = 0.05 / len(HYPOTHESES), power: float = 0.8) -> float:
    """Return the smallest difference of two arms that the exact McNemar test finds often enough.

    Args:
        n: cases.
        lost: fraction of cases that only the second arm gets right.
        level: of the test, Holm's for the smallest p-value by default.
        power: fraction of the studies.

    Returns:
        Fraction of cases that only the first arm gets right, less `lost`; in steps of 0.01.
    """
    rng = np.random.default_rng(0)
    for difference in np.arange(0.01, 1 - 2 * lost, 0.01):
        drawn = rng.multinomial(n, (lost + difference, lost, 1 - 2 * lost - difference), 400)
        found = [_p(won, against) < level for won, against, _ in drawn.tolist()]
        if fmean(found) >= power:
            return float(difference)
    return 1.0


@cache
def _p(won: int, lost: int) -> float:
    return mcnemar_exact([True] * won + [False] * lost, [False] * won + [True] * lost)


def title(test: Hypothesis) -> str:
    """Return a test in words."""
    image = ", and the same image" if test.same else ""
    return f"{test.part} {test.totals[0]}-{test.totals[-1]}: {test.first} against {test.second}{image}"


def read(folder: Path = RECORDS) -> dict[str, list[Record]]:
    """Return the records of the parts that have some."""
    return {name: read_run(folder / name)[1] for name in PARTS if (folder / name).is_dir()}


def results() -> str:
    """Return the tables and tests of the parts that have records, in Markdown."""
    runs = read()
    lines = []
    measures = ("right %", "by the second judge %", "right, same image %", "mean error", "evaluations", "seconds")
    for name, records in runs.items():
        totals = PARTS[name].totals
        together = [group for group in GROUPS if len(group) > 1 and {*group} < {*totals}]
        groups = [totals, *together, *(range(one, one + 1) for one in totals)]
        rows = [
            _cells(arm, group, found)
            for arm, mine in by_arm(records).items()
            for group in groups
            if (found := [record for record in mine if total(record) in group])
        ]
        lines.append(f"## {name}\n\n{table(('arm', 'objects', 'n', *measures), rows)}\n")
    tests = [(test, compared(test, runs[test.part])) for test in HYPOTHESES if test.part in runs]
    rows = [
        (title(test), str(found.cases), str(found.won), str(found.lost), p_text(found.p_value), p_text(p))
        for (test, found), p in zip(tests, holm([found.p_value for _, found in tests]), strict=True)
    ]
    lines.append(f"## Tests\n\n{table(('test', 'cases', 'won', 'lost', 'p', 'p, Holm'), rows)}")
    return "\n".join(lines)


def _cells(arm: str, group: range, records: Sequence[Record]) -> tuple[str, ...]:
    first, second = records[0].judges[:2]
    errors = [error for record in records if (error := absolute_error(record, first)) is not None]
    return (
        arm,
        f"{group[0]}-{group[-1]}" if len(group) > 1 else str(group[0]),
        str(len(records)),
        rate([is_right(record, first) for record in records]),
        rate([is_right(record, second) for record in records]),
        rate([*map(same_and_right, records)]),
        f"{fmean(errors):.2f}" if errors else "-",
        f"{fmean(record.evaluations for record in records):.1f}",
        f"{fmean(record.seconds for record in records):.1f}",
    )


SUMMARY = {
    "1-5": ("words", range(1, 6), False),
    "6-10": ("words", range(6, 11), False),
    "11-12": ("words", range(11, 13), False),
    "13-15": ("beyond", range(13, 16), False),
    "16": ("beyond", range(16, 17), False),
    "two classes, 2-10": ("two-classes", range(2, 11), False),
    "right and the same image, 4-12": ("words", range(4, 13), True),
}
"""Columns of the README's table: part, totals, and whether the image is also the same."""


def summary(methods: Sequence[str]) -> str:
    """Return a Markdown table: images right in % by the first judge, with 95 % Wilson intervals."""
    arms = {name: by_arm(records) for name, records in read().items()}
    columns = {}
    for column, (part, totals, same) in SUMMARY.items():
        test = Hypothesis(part, totals, "", "", same)
        columns[column] = {
            name: [test.holds(record) for record in mine if total(record) in totals]
            for name, mine in arms.get(part, {}).items()
        }
    head = ["method", *(f"{name} (n = {max(map(len, found.values()), default=0)})" for name, found in columns.items())]
    return table(head, [(name, *(rate(found.get(name, [])) for found in columns.values())) for name in methods])


def compared(test: Hypothesis, records: Sequence[Record]) -> Duel:
    """Return the paired comparison that a hypothesis asks for."""
    arms = by_arm([record for record in records if total(record) in test.totals])
    paired = pairs(arms.get(test.first, ()), arms.get(test.second, ()))
    return duel([test.holds(one) for one, _ in paired], [test.holds(other) for _, other in paired])


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked; started in the repository's root."""
    steps = {"write": write, "commands": commands, "sizes": sizes, "results": lambda: print(results())}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.beyond_seeds", description=__doc__)
    parser.add_argument("step", choices=tuple(steps))
    steps[parser.parse_args(arguments).step]()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
