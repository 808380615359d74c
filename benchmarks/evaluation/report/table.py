"""A table of text, its format in a terminal, and the format of its numbers."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import fill, wrap

from countgen.benchmarks.evaluation.metrics import Item
from countgen.benchmarks.evaluation.report.findings import Section
from countgen.files.printable import printable
from countgen.files.spreadsheet import cell

_SHORTEST_NAME = 20
MARK = "†"
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


def as_csv(table: Table) -> str:
    """Return a table as CSV, its title in the first cell."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for row in ((table.title, *table.header[1:]), *table.rows):
        writer.writerow(map(cell, row))
    return file.getvalue()


def as_markdown(table: Table) -> str:
    """Return a table as Markdown, with its title and note above and below."""
    header, *rows = (
        [printable(text).strip().replace("|", "\\|") for text in row] for row in (table.header, *table.rows)
    )
    rule = ["---", *("---:" for _ in table.header[1:])]
    lines = (f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))
    note = [printable(table.note), ""] if table.note else []
    return "\n".join((f"**{printable(table.title)}**", "", *lines, "", *note))


def as_latex(table: Table) -> str:
    """Return a table as a LaTeX `table` for the package booktabs, with title and note as its caption."""
    header, *rows = (" & ".join(map(_latex, row)) + r" \\" for row in (table.header, *table.rows))
    caption = _latex(f"{table.title}. {table.note}".strip())
    columns = "l" + "r" * (len(table.header) - 1)
    return "\n".join(
        (
            *(r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rf"\begin{{tabular}}{{{columns}}}"),
            *(r"\toprule", header, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""),
        )
    )


_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
        **{"<": "$<$", ">": "$>$"},
    }
)


def _latex(text: str) -> str:
    """Return text as LaTeX; an indented name keeps its indentation."""
    indent = r"\quad " if text.startswith(" ") else ""
    return indent + printable(text).strip().translate(_LATEX)


FORMATS: dict[str, Callable[[Table], str]] = {"csv": as_csv, "latex": as_latex, "markdown": as_markdown}
"""Functions that format a table for other programs, by the name of the format."""


def rows_of(columns: Sequence[Item], *rows: tuple[str, Callable[[Item], str]]) -> tuple[tuple[str, ...], ...]:
    """Return rows from their names and the function that makes the cell of a column."""
    return tuple((name, *map(cell, columns)) for name, cell in rows)


def percent(share: float, ends: tuple[float, float] | None = None) -> str:
    """Return whole percent, with an interval if its ends are given; "-" where unknown."""
    if math.isnan(share):
        return "-"
    return f"{100 * share:.0f} {interval(*ends)}" if ends else f"{100 * share:.0f}"


def number(value: float, digits: int = 2) -> str:
    """Return a number as text; "-" where unknown, "never" where infinite."""
    if math.isnan(value):
        return "-"
    return "never" if math.isinf(value) else f"{value:.{digits}f}"


def p_text(p_value: float) -> str:
    """Return a p-value with two digits."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.2g}"


def interval(low: float, high: float, scale: float = 100, digits: int = 0) -> str:
    """Return the ends of an interval times `scale`, in brackets; "-" where unknown."""
    return "-" if math.isnan(low) else f"[{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def judge_text(section: Section, judge: str) -> str:
    """Return a judge's name, marked where it steered."""
    return f"{judge} {MARK}" if judge in section.steered else judge


def header(section: Section) -> tuple[str, ...]:
    """Return the header of a table with a column for each method."""
    return ("", *(method.name for method in section.methods))
