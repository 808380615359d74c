"""Build the tables of a report, with one column per method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from countgen.benchmarks.evaluation.metrics import Preservation, Scores
from countgen.benchmarks.evaluation.reliability import BINS, FEW, GROUPS, Reliability
from countgen.benchmarks.evaluation.report.findings import AXES, MethodFindings, Section, Versus
from countgen.benchmarks.evaluation.report.geckonum import human_table
from countgen.benchmarks.evaluation.report.judge_tables import (
    agreement_tables,
    calibration_tables,
    corrected_table,
)
from countgen.benchmarks.evaluation.report.table import (
    MARK_NOTE,
    Table,
    header,
    interval,
    judge_text,
    number,
    p_text,
    percent,
    rows_of,
)
from countgen.benchmarks.evaluation.statistics import wilson_interval
from countgen.benchmarks.evaluation.suites.prompt import LEVELS
from countgen.image_preservation import LEAST_KEPT, MOST_CHANGED

NUMERACY = "numeracy"
"""How the names of T2I-CompBench's files begin."""


def tables(section: Section) -> list[Table]:
    """Return all tables of one backbone and suite."""
    by_count = [method.counts for method in section.methods]
    counts = sorted({*chain(*by_count)})
    return [
        _judged(section, section.judges[0]),
        _by_group(section, "Right by level, %", LEVELS, [method.levels for method in section.methods]),
        _by_group(section, "Right by number of objects, %", counts, by_count),
        *human_table(counts),
        _cost(section),
        *(_stopped(section, axis) for axis in AXES),
        *(_versus(section, judge, versus) for judge, versus in section.versus.items()),
        _guard(section),
        *([_reliability(section)] if any(method.reliability for method in section.methods) else []),
        *([_preserved(section)] if any(method.preservation for method in section.methods) else []),
        *(_judged(section, judge) for judge in section.judges[1:]),
        *agreement_tables(section),
        *corrected_table(section),
        *calibration_tables(section),
        *([_failures(section)] if section.failures else []),
    ]


def _judged(section: Section, judge: str) -> Table:
    def cell(show: Callable[[Scores], str]) -> Callable[[MethodFindings], str]:
        return lambda method: show(method.scores[judge]) if judge in method.scores else "-"

    rows = rows_of(
        section.methods,
        ("images", cell(lambda s: str(s.images))),
        ("failed (wrong)", cell(lambda s: str(s.failed))),
        ("no answer (not right)", cell(lambda s: str(s.abstained))),
        ("right, %", cell(lambda s: percent(s.accuracy))),
        ("  95 % interval", cell(lambda s: interval(*s.interval))),
        ("at most 1 off, %", cell(lambda s: percent(s.off_by_one))),
        ("MAE", cell(lambda s: number(s.mae))),
        ("RMSE", cell(lambda s: number(s.rmse))),
        ("bias", cell(lambda s: number(s.bias))),
        *([("T2I-CompBench score", cell(lambda s: number(s.partial)))] if section.suite.startswith(NUMERACY) else []),
    )
    notes = [MARK_NOTE] if judge in section.steered else []
    if len({method.scores[judge].images for method in section.methods if judge in method.scores}) > 1:
        notes.append("Not the same images for all: compare methods by number of objects, or in pairs below.")
    note = " ".join(notes)
    return Table(f"All images, judged by {judge_text(section, judge)}", header(section), rows, note)


def _guard(section: Section) -> Table:
    rows = [
        *rows_of(
            section.methods,
            ("confirmed", lambda m: str(m.confirmed)),
            ("  of these wrong", lambda m: str(m.confirmed_wrong)),
        )
    ]
    if any(method.truncated for method in section.methods):
        rows += rows_of(section.methods, ("prompts cut", lambda m: "-" if m.truncated is None else str(m.truncated)))
    note = f"By {judge_text(section, section.judges[0])}. A text encoder cuts prompts that are longer than it reads."
    return Table("Confirmation", header(section), tuple(rows), note)


def _reliability(section: Section) -> Table:
    def cell(found: Reliability | None) -> str:
        if found is None:
            return "-"
        few = " few" if found.images < FEW else ""
        return f"{percent(found.share, found.interval)} of {found.images} ({100 * found.predicted:.1f}){few}"

    bins = [(f"P from {low:g}", [m.reliability.get(low) for m in section.methods]) for low in BINS]
    groups = [(name, [m.reliability_of_confirmed.get(name) for m in section.methods]) for name in GROUPS]
    known = [(name, found) for name, found in (*bins, *groups) if any(found)]
    note = (
        f"Right by {judge_text(section, section.judges[0])}, % of the images (mean of the predicted P, %), with 95 % "
        f"Wilson intervals; few: less than {FEW} images. Rows of objects, classes and evaluations: confirmed images."
    )
    return Table(
        "Reliability of P(right)", header(section), tuple((name, *map(cell, found)) for name, found in known), note
    )


def _preserved(section: Section) -> Table:
    def cell(show: Callable[[Preservation], str]) -> Callable[[MethodFindings], str]:
        return lambda method: show(method.preservation) if method.preservation else "-"

    rows = rows_of(
        section.methods,
        ("right and the same image, %", cell(lambda p: percent(p.same_and_right / p.images))),
        ("  95 % interval", cell(lambda p: interval(*wilson_interval(p.same_and_right, p.images)))),
        ("objects kept", cell(lambda p: number(p.objects_kept))),
        ("background change", cell(lambda p: number(p.background_change, 3))),
        ("structural similarity", cell(lambda p: number(p.structural_similarity))),
    )
    judge = judge_text(section, section.judges[0])
    note = (
        f"Compared with the plain image of the seed, by the boxes of {judge}. The same image: at least {LEAST_KEPT:g} "
        f"of the objects that can stay are kept, and the background changes by at most {MOST_CHANGED:g}."
    )
    return Table("Kept of the plain image", header(section), rows, note)


def _by_group(section: Section, title: str, names: Iterable[Any], by_method: Sequence[Mapping[Any, Scores]]) -> Table:
    def cell(score: Scores | None) -> str:
        return "-" if score is None else percent(score.accuracy, score.interval)

    known = [name for name in names if any(name in scores for scores in by_method)]
    rows = tuple((str(name), *(cell(scores.get(name)) for scores in by_method)) for name in known)
    images = max((score.images for scores in by_method for score in scores.values()), default=0)
    return Table(title, header(section), rows, f"95 % Wilson intervals; images a cell: {images} or fewer.")


def _cost(section: Section) -> Table:
    rows = rows_of(
        section.methods,
        ("evaluations", lambda m: number(m.spent.evaluations, 1)),
        ("seconds", lambda m: number(m.spent.seconds)),
        ("  per right image", lambda m: number(m.spent.seconds_per_right)),
        ("peak memory, MiB", lambda m: "-" if m.spent.peak_bytes is None else f"{m.spent.peak_bytes / 2**20:.0f}"),
    )
    return Table("Cost of an image", header(section), rows)


def _stopped(section: Section, axis: str) -> Table:
    curves = [method.curves[axis] for method in section.methods]
    ends = [float(budget) for curve in curves for budget in curve.budgets if budget > 0]
    if axis == "evaluations":
        grid = [2.0**power for power in range(20)]
    else:
        grid = [step * 10.0**power for power in range(-3, 5) for step in (1, 2, 5)]
    # A budget before the first change would give 0 for all methods; one after the last gives the final value.
    below = [budget for budget in grid if min(ends, default=1) <= budget < max(ends, default=1)]
    chosen = [*below, *[budget for budget in grid if budget >= max(ends, default=1)][:1]]
    rows = tuple((f"{budget:g}", *(percent(curve.at(budget)) for curve in curves)) for budget in chosen)
    return Table(f"Right when stopped at so many {axis}, %", header(section), rows)


def _versus(section: Section, judge: str, versus: Sequence[Versus]) -> Table:
    rows = rows_of(
        versus,
        ("against", lambda v: v.opponent),
        ("cases", lambda v: str(v.comparison.duel.cases)),
        ("  not in both", lambda v: str(v.comparison.unpaired)),
        ("won", lambda v: str(v.comparison.duel.won)),
        ("lost", lambda v: str(v.comparison.duel.lost)),
        ("right, points", lambda v: number(100 * v.comparison.accuracy.mean, 1)),
        ("  95 % interval", lambda v: interval(v.comparison.accuracy.low, v.comparison.accuracy.high, digits=1)),
        ("McNemar p", lambda v: p_text(v.comparison.duel.p_value)),
        ("  by Holm", lambda v: p_text(v.adjusted_p)),
    )
    by = judge_text(section, judge)
    note = f"Paired cases, judged by {by}; intervals by cluster bootstrap over prompts, p of the exact test."
    return Table(f"Methods compared, judged by {by}", ("", *(pair.method for pair in versus)), rows, note)


def _failures(section: Section) -> Table:
    rows = tuple((reason, str(times)) for reason, times in section.failures.items())
    return Table("Failed images, counted as wrong", ("", "images"), rows)
