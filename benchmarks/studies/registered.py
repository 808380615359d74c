"""A registered study: prompts, seeds, arms and tests that are fixed and committed before it runs.

A study is a file of data beside this one, for example `benchmarks.studies.beyond_seeds`. Started as a module, with
`write` it makes its suites again, `commands` prints what to run, `sizes` which differences the study can see, and
`results` prints tables and tests of its records.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
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
RESULTS = Path("benchmarks/results")
_COSTS = ("evaluations", "evaluations a right image", "seconds")


@dataclass(frozen=True)
class Part:
    """A part of the study: one suite and one run of the evaluator.

    Attributes:
        model: preset.
        classes: object classes of a prompt, 1 or 2.
        totals: numbers of objects, of all classes together.
        each: cases of each total.
        methods: arms.
        object_names: classes that the prompts take in turn, in an order of each total's own.
        templates: prompts, with {} for number and objects, taken in turn.
        max_evaluations: for each image of every arm.
    """

    model: str
    classes: int
    totals: range
    each: int
    methods: tuple[str, ...]
    object_names: tuple[str, ...] = tuple(OBJECT_NAMES)
    templates: tuple[str, ...] = ("a photo of {}",)
    max_evaluations: int = 60


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


@dataclass(frozen=True, eq=False)
class Study:
    """A study whose records are in a folder of its name in benchmarks/results.

    Attributes:
        name: of the study.
        parts: by name, in the order in which they run.
        hypotheses: two-sided exact McNemar tests, with Holm's correction over all of them.
        groups: totals that the tables put together, besides every total alone.
        first_seed: of the first part; a part takes a million.
    """

    name: str
    parts: Mapping[str, Part]
    hypotheses: tuple[Hypothesis, ...]
    groups: tuple[range, ...]
    first_seed: int

    def cases(self, name: str) -> Iterator[dict[str, object]]:
        """Yield the rows of a part's suite: prompt, targets and the case's own seed, the first of each total first."""
        part = self.parts[name]
        names = part.object_names
        start = self.first_seed + 1_000_000 * [*self.parts].index(name)
        for number in range(part.each):
            for objects in part.totals:
                seed = start + 1000 * objects + number
                if part.classes == 1:  # no object class comes twice for one total before all came once
                    order = np.random.default_rng(start + objects).permutation(len(names))
                    chosen, counts = [order[number % len(names)]], [objects]
                else:
                    rng = np.random.default_rng(seed)
                    chosen = [*rng.choice(len(names), 2, replace=False)]
                    first = int(rng.integers(1, objects))
                    counts = [first, objects - first]
                targets = {names[one]: count for one, count in zip(chosen, counts, strict=True)}
                said = " and ".join(f"{number_word(count)} {counted(name, count)}" for name, count in targets.items())
                template = part.templates[number % len(part.templates)]
                yield {"prompt": template.format(said), "targets": targets, "tags": {"seed": str(seed)}}

    def write(self) -> None:
        """Write the suites."""
        for name in self.parts:
            lines = "".join(json.dumps(row) + "\n" for row in self.cases(name))
            (SUITES / f"{name}.jsonl").write_text(lines, "utf-8")

    def commands(self) -> str:
        """Return the command of every part."""
        return "\n".join(
            f"countgen eval --suite {SUITES / name}.jsonl --model {part.model} --methods {','.join(part.methods)} "
            f"--max-evaluations {part.max_evaluations} --threads 1 --out runs/{self.name}/{name}"
            for name, part in self.parts.items()
        )

    def sizes(self) -> str:
        """Return the smallest difference in points that each test finds in 80 % of the studies, in Markdown."""
        level = 0.05 / len(self.hypotheses)  # Holm's for the smallest p-value
        rows = []
        for test in self.hypotheses:
            n = self.parts[test.part].each * len(test.totals)
            cells = [f"{100 * detectable(n, lost, level):.0f}" for lost in (0, 0.1)]
            rows.append((title(test), str(n), *cells))
        return table(("test", "cases", "where none goes the other way", "where 10 % go the other way"), rows)

    def read(self) -> dict[str, list[Record]]:
        """Return the records of the parts that have some."""
        folder = RESULTS / self.name
        return {name: read_run(folder / name)[1] for name in self.parts if (folder / name).is_dir()}

    def results(self) -> str:
        """Return the tables and tests of the parts that have records, in Markdown."""
        runs = self.read()
        lines = []
        measures = ("right %", "by the second judge %", "right, same image %", "mean error", *_COSTS)
        for name, records in runs.items():
            totals = self.parts[name].totals
            together = [group for group in self.groups if len(group) > 1 and {*group} < {*totals}]
            groups = [totals, *together, *(range(one, one + 1) for one in totals)]
            rows = [
                _cells(arm, group, found)
                for arm, mine in by_arm(records).items()
                for group in groups
                if (found := [record for record in mine if total(record) in group])
            ]
            lines.append(f"## {name}\n\n{table(('arm', 'objects', 'n', *measures), rows)}\n")
        tests = [(test, compared(test, runs[test.part])) for test in self.hypotheses if test.part in runs]
        rows = [
            (title(test), str(found.cases), str(found.won), str(found.lost), p_text(found.p_value), p_text(p))
            for (test, found), p in zip(tests, holm([found.p_value for _, found in tests]), strict=True)
        ]
        lines.append(f"## Tests\n\n{table(('test', 'cases', 'won', 'lost', 'p', 'p, Holm'), rows)}")
        return "\n".join(lines)

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Do what is asked; started in the repository's root."""
        parser = argparse.ArgumentParser(prog=f"python -m benchmarks.studies.{self.name.replace('-', '_')}")
        parser.add_argument("step", choices=("write", "commands", "sizes", "results"))
        printed = getattr(self, parser.parse_args(arguments).step)()
        if printed:
            print(printed)
        return 0


def detectable(n: int, lost: float, level: float, power: float = 0.8) -> float:
    """Return the smallest difference of two arms that the exact McNemar test finds often enough.

    Args:
        n: cases.
        lost: fraction of cases that only the second arm gets right.
        level: of the test.
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


def compared(test: Hypothesis, records: Sequence[Record]) -> Duel:
    """Return the paired comparison that a hypothesis asks for."""
    arms = by_arm([record for record in records if total(record) in test.totals])
    paired = pairs(arms.get(test.first, ()), arms.get(test.second, ()))
    return duel([test.holds(one) for one, _ in paired], [test.holds(other) for _, other in paired])


def _cells(arm: str, group: range, records: Sequence[Record]) -> tuple[str, ...]:
    first, second = records[0].judges[:2]
    evaluations, right = (
        fmean(record.evaluations for record in records),
        sum(is_right(record, first) for record in records),
    )
    errors = [error for record in records if (error := absolute_error(record, first)) is not None]
    return (
        arm,
        f"{group[0]}-{group[-1]}" if len(group) > 1 else str(group[0]),
        str(len(records)),
        rate([is_right(record, first) for record in records]),
        rate([is_right(record, second) for record in records]),
        rate([*map(same_and_right, records)]),
        f"{fmean(errors):.2f}" if errors else "-",
        f"{evaluations:.1f}",
        f"{evaluations * len(records) / right:.1f}" if right else "-",
        f"{fmean(record.seconds for record in records):.1f}",
    )
