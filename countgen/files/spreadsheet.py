"""Tables of text that people open in a spreadsheet: CSV files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from countgen.files.printable import printable
from countgen.files.reading import read_text

LONGEST_CELL = 32_767
"""Characters that a cell of a spreadsheet holds."""

MAX_BYTES = 64 * 2**20
"""Largest size of a table."""

_FORMULA = re.compile(r"[=+\-@].|\\[tr]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def cell(text: str) -> str:
    """Return text as a cell that no spreadsheet runs as a formula: "'=1+1" for "=1+1".

    Numbers stay as they are; characters that a terminal obeys are escaped.
    """
    text = printable(text, LONGEST_CELL)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def read_table(path: Path, *headers: Collection[str]) -> tuple[list[str], Iterator[tuple[str, dict[str, str]]]]:
    """Return the header of a CSV file, and its rows.

    Args:
        path: cells are separated by commas, semicolons or tabs.
        headers: alternatives of columns, one of which it must have; it may have further ones.

    Returns:
        The names of the columns; and for each row that is not empty its position ("FILE, line 2", for messages) and its
        stripped cells by column, "" for those that it lacks.

    Raises:
        ValueError: not a table in UTF-8 or one without these columns; or a row with more cells than columns, or a
            quotation mark that is not closed.
        OSError: the file is missing or cannot be read.
    """
    text, name = read_text(path, MAX_BYTES), printable(path)
    first = text.partition("\n")[0]
    separator = next((sign for sign in ";\t" if sign in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows = _rows(reader, name)
    _, header = next(rows, ("", []))
    if not any(set(columns) <= set(header) for columns in headers):
        expected = "; or ".join(", ".join(columns) for columns in headers)
        given = printable(", ".join(header), 200) or "none"
        raise ValueError(f"{name}, line 1: expected the columns {expected}; got {given}")
    return header, ((where, _by_column(header, cells, where)) for where, cells in rows if any(cells))


def _rows(reader: Iterator[list[str]], name: str) -> Iterator[tuple[str, list[str]]]:
    number = 1
    try:
        for cells in reader:
            yield f"{name}, line {number}", [text.strip() for text in cells]
            number = reader.line_num + 1  # type: ignore[attr-defined]
    except csv.Error as error:
        raise ValueError(f"{name}, line {number}: {error}; save it as CSV in UTF-8") from error


def _by_column(header: list[str], cells: list[str], where: str) -> dict[str, str]:
    if len(cells) > len(header):
        raise ValueError(f"{where}: more cells than the header has; put texts with commas in quotes")
    return dict.fromkeys(header, "") | dict(zip(header, cells, strict=False))
