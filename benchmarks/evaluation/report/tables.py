"""Build the tables of a report, with one column per method, and format them for a terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import fill, wrap

from benchmarks.evaluation.comparison import Agreement
from benchmarks.evaluation.image_statistics import NAMES, ImageQuality
from benchmarks.evaluation.metrics import CHANGED, KEPT, Preservation, Scores
from benchmarks.evaluation.report.findings import AXES, MethodFindings, Section, Versus
from benchmarks.evaluation.statistics import wilson_interval
from countgen.printable import printable

_SHORTEST_NAME = 20
MARK = "†"
FLAG = "‡"
COMPARED, AGAINST, FAILED = "Methods compared", "Against the other run", "Failed images, counted as wrong"
"""How titles begin."""
QUALITY, QUALITY_FLAGGED = "Image statistics", "Image statistics, flagged"
MARK_NOTE = f"{MARK} counted by a critic that steered the images: not independent."


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: above it.
        header: of the columns; the first entry, above the rows' names, is empty.
        rows: with as many cells as the header.
        note: below the table, if not empty.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables(section: Section) -> list[Table]:
    """Return all tables of one backbone and suite."""
    return [
        _judged(section, section.judges[0]),
        _scores_table(section, "Right by level, %", lambda method: method.levels),
        _scores_table(section, "Right by number of objects, %", lambda method: method.counts),
        _cost(section),
        *(_stopped(section, axis) for axis in AXES),
        *(_versus(COMPARED, section, judge, versus) for judge, versus in section.versus.items()),
        *(_versus(AGAINST, section, judge, versus) for judge, versus in section.against.items()),
        _guard(section),
        *_image_quality(section),
        *([_preserved(section)] if any(method.preservation for method in section.methods) else []),
        *(_judged(section, judge) for judge in section.judges[1:]),
        *_agreement(section),
        *([_failures(section)] if section.failures else []),
    ]


def as_text(table: Table, width: int = 80) -> str:
    """Return a table as text for a terminal; columns that do not fit in its width follow below.

    Names come from a run's records: control characters are escaped, and long names shortened.

    Args:
        table: to format.
        width: characters per line; a single column may be wider.
    """
    header, *rows = (tuple(printable(cell) for cell in row) for row in (table.header, *table.rows))
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    # A long name of a row, such as an error, continues in the next line.
    widths[0] = min(widths[0], max(_SHORTEST_NAME, width - 2 - max(widths[1:], default=0)))
    blocks: list[list[int]] = [[]]
    for index in range(1, len(widths)):
        taken = widths[0] + sum(2 + widths[other] for other in blocks[-1])
        if blocks[-1] and taken + 2 + widths[index] > width:
            blocks.append([])
        blocks[-1].append(index)
    lines = [printable(table.title)]
    for block in blocks:
        for row in (header, *rows):
            cells = (row[index].rjust(widths[index]) for index in block)
            name, *more = wrap(row[0], widths[0]) or [""]
            lines.append("  ".join((name.ljust(widths[0]), *cells)).rstrip())
            lines += more
        lines.append("")
    if table.note:
        lines[-1] = fill(printable(table.note), width)
        lines.append("")
    return "\n".join(lines)


def percent(share: float) -> str:
    """Return whole percent; "-" where unknown."""
    return "-" if math.isnan(share) else f"{100 * share:.0f}"


def number(value: float, digits: int = 2) -> str:
    """Return a number as text; "-" where unknown, "never" where infinite."""
    if math.isnan(value):
        return "-"
    return "never" if math.isinf(value) else f"{value:.{digits}f}"


def p_text(p_value: float) -> str:
    """Return a p-value with two digits."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.2g}"


def judge_text(section: Section, judge: str) -> str:
    """Return a judge's name, marked where it steered."""
    return f"{judge} {MARK}" if judge in section.steered else judge


def _interval(low: float, high: float, scale: float = 100, digits: int = 0) -> str:
    return "-" if math.isnan(low) else f"[{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def _rows(
    methods: Sequence[MethodFindings], *rows: tuple[str, Callable[[MethodFindings], str]]
) -> Iterator[tuple[str, ...]]:
    for name, cell in rows:
        yield (name, *(cell(method) for method in methods))


def _judged(section: Section, judge: str) -> Table:
    def mine(show: Callable[[Scores], str]) -> Callable[[MethodFindings], str]:
        return lambda method: show(method.scores[judge]) if judge in method.scores else "-"

    rows = _rows(
        section.methods,
        ("images", mine(lambda s: str(s.images))),
        ("failed (wrong)", mine(lambda s: str(s.failed))),
        ("no answer (not right)", mine(lambda s: str(s.abstained))),
        ("right, %", mine(lambda s: percent(s.accuracy))),
        ("  95 % interval", mine(lambda s: _interval(*s.interval))),
        ("at most 1 off, %", mine(lambda s: percent(s.off_by_one))),
        ("MAE", mine(lambda s: number(s.mae))),
        ("RMSE", mine(lambda s: number(s.rmse))),
        ("bias", mine(lambda s: number(s.bias))),
    )
    notes = [MARK_NOTE] if judge in section.steered else []
    if len({method.scores[judge].images for method in section.methods if judge in method.scores}) > 1:
        notes.append("Not the same images for all: compare methods by level, or in pairs below.")
    note = " ".join(notes)
    return Table(f"All images, judged by {judge_text(section, judge)}", _header(section), tuple(rows), note)


def _guard(section: Section) -> Table:
    rows = [
        *_rows(
            section.methods,
            ("confirmed", lambda m: str(m.confirmed)),
            ("  of these wrong", lambda m: str(m.confirmed_wrong)),
            ("confidence", lambda m: number(m.confidence)),
            ("  % of plain's", lambda m: percent(m.confidence_ratio)),
            ("  change", lambda m: number(m.confidence_change.mean, 3)),
            ("  95 % interval", lambda m: _interval(m.confidence_change.low, m.confidence_change.high, 1, 3)),
        )
    ]
    if any(method.quality for method in section.methods):
        rows += _rows(
            section.methods,
            ("CLIP similarity", lambda m: number(m.quality.similarity, 3) if m.quality else "-"),
            ("diversity", lambda m: number(m.quality.diversity, 3) if m.quality else "-"),
        )
    if any(method.truncated for method in section.methods):
        rows += _rows(section.methods, ("prompts cut", lambda m: "-" if m.truncated is None else str(m.truncated)))
    judge = judge_text(section, section.judges[0])
    note = (
        f"Mean class confidence of {judge}; per cent and change are paired with the plain images of the same cases. "
        "A text encoder reads so many tokens; prompts that are longer are cut."
    )
    return Table("Confirmation and quality", _header(section), tuple(rows), note)


def _preserved(section: Section) -> Table:
    def mine(show: Callable[[Preservation], str]) -> Callable[[MethodFindings], str]:
        return lambda method: show(method.preservation) if method.preservation else "-"

    rows = _rows(
        section.methods,
        ("right and the same image, %", mine(lambda p: percent(p.same_and_right / p.images))),
        ("  95 % interval", mine(lambda p: _interval(*wilson_interval(p.same_and_right, p.images)))),
        ("objects kept", mine(lambda p: number(p.objects_kept))),
        ("background change", mine(lambda p: number(p.background_change, 3))),
        ("structural similarity", mine(lambda p: number(p.structural_similarity))),
    )
    judge = judge_text(section, section.judges[0])
    note = (
        f"Compared with the plain image of the seed, by the boxes of {judge}. The same image: at least {KEPT:g} of the "
        f"objects that can stay are kept, and the background changes by at most {CHANGED:g}."
    )
    return Table("Kept of the plain image", _header(section), tuple(rows), note)


def _image_quality(section: Section) -> Iterator[Table]:
    """Yield the table of image statistics, where some method has images beside plain ones."""
    methods = {method.name: found for method in section.methods if (found := method.image_quality) is not None}
    if not methods:
        return

    def cell(found: ImageQuality, name: str) -> str:
        shift = found.shifts[name]
        size = abs(shift.change) / shift.spread if shift.spread > 0 else math.nan
        return f"{shift.change:+.3g} ({number(size, 1)}){FLAG * shift.flagged}"

    rows = [("images", *(str(found.images) for found in methods.values()))]
    for name in NAMES:
        rows.append((name.replace("_", " "), *(cell(found, name) for found in methods.values())))
        rows.append(("  outside, %", *(percent(found.shifts[name].outside) for found in methods.values())))
    flagged = any(found.flagged for found in methods.values())
    note = (
        "Mean change against the plain image of the seed (in standard deviations of the plain images), and images "
        f"outside the plain images' range. {FLAG}: moved by more than the plain images' own spread; look at the images."
    )
    yield Table(QUALITY_FLAGGED if flagged else QUALITY, ("", *methods), tuple(rows), note)


def _header(section: Section) -> tuple[str, ...]:
    return ("", *(method.name for method in section.methods))


def _scores_table(
    section: Section, title: str, groups: Callable[[MethodFindings], dict[str, Scores] | dict[int, Scores]]
) -> Table:
    named = [{str(name): found for name, found in groups(method).items()} for method in section.methods]
    names = list(dict.fromkeys(name for mine in named for name in mine))
    if names and names[0].isdecimal():
        names.sort(key=int)

    def cell(found: Scores | None) -> str:
        return "-" if found is None else f"{percent(found.accuracy)} {_interval(*found.interval)}"

    rows = tuple((name, *(cell(mine.get(name)) for mine in named)) for name in names)
    images = max((found.images for mine in named for found in mine.values()), default=0)
    return Table(title, _header(section), rows, f"95 % Wilson intervals; images a cell: {images} or fewer.")


def _cost(section: Section) -> Table:
    rows = _rows(
        section.methods,
        ("evaluations", lambda m: number(m.spent.evaluations, 1)),
        ("seconds", lambda m: number(m.spent.seconds)),
        ("  median", lambda m: number(m.spent.median_seconds)),
        ("  per right image", lambda m: number(m.spent.seconds_per_right)),
        ("peak memory, MiB", lambda m: "-" if m.spent.peak_bytes is None else f"{m.spent.peak_bytes / 2**20:.0f}"),
        ("first right after", lambda _: ""),
        ("  evaluations", lambda m: number(m.first_right.evaluations, 0)),
        ("  seconds", lambda m: number(m.first_right.seconds)),
        ("  never, %", lambda m: percent(m.first_right.never / m.first_right.images)),
    )
    note = "First right: medians over all images; never where half of them never were."
    return Table("Cost of an image", _header(section), tuple(rows), note)


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
    return Table(f"Right when stopped at so many {axis}, %", _header(section), rows)


def _versus(title: str, section: Section, judge: str, versus: Sequence[Versus]) -> Table:
    rows = [
        ("against", *(one.opponent for one in versus)),
        ("cases", *(str(one.comparison.duel.cases) for one in versus)),
        ("  not in both", *(str(one.comparison.unpaired) for one in versus)),
        ("won", *(str(one.comparison.duel.won) for one in versus)),
        ("lost", *(str(one.comparison.duel.lost) for one in versus)),
        ("right, points", *(number(100 * one.comparison.accuracy.mean, 1) for one in versus)),
        (
            "  95 % interval",
            *(_interval(one.comparison.accuracy.low, one.comparison.accuracy.high, 100, 1) for one in versus),
        ),
        ("absolute error", *(number(one.comparison.error.mean) for one in versus)),
        ("  95 % interval", *(_interval(one.comparison.error.low, one.comparison.error.high, 1, 2) for one in versus)),
        ("McNemar p", *(p_text(one.comparison.duel.p_value) for one in versus)),
        ("  by Holm", *(p_text(one.adjusted_p) for one in versus)),
    ]
    by = judge_text(section, judge)
    note = f"Paired cases, judged by {by}; intervals by cluster bootstrap over prompts, p of the exact test."
    return Table(f"{title}, judged by {by}", ("", *(one.method for one in versus)), tuple(rows), note)


def _agreement(section: Section) -> Iterator[Table]:
    """Yield matrices of judges by judges, where two judges or more counted."""
    if not section.agreements:
        return
    judges = list(dict.fromkeys(name for pair in section.agreements for name in pair))
    header = ("", *(judge_text(section, name) for name in judges))

    def matrix(title: str, show: Callable[[Agreement], str], note: str) -> Table:
        def cell(row: str, column: str) -> str:
            found = section.agreements.get((row, column)) or section.agreements.get((column, row))
            return "-" if found is None else show(found)

        rows = tuple((judge_text(section, row), *(cell(row, column) for column in judges)) for row in judges)
        return Table(title, header, rows, note)

    yield matrix(
        "Agreement of judges: equal counts, %",
        lambda found: f"{percent(found.equal)} of {found.counts}",
        "Of the counts that both judges gave, one for each object class of an image.",
    )
    yield matrix(
        "Agreement of judges: kappa",
        lambda found: f"{number(found.kappa)} / {number(found.verdict_kappa)}",
        "Cohen's kappa, unweighted: of the counts / of right or wrong by image.",
    )


def _failures(section: Section) -> Table:
    rows = tuple((reason, str(times)) for reason, times in section.failures.items())
    return Table(FAILED, ("", "images"), rows)
