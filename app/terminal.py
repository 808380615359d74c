"""Text that fits the terminal."""

from __future__ import annotations

import shutil
import textwrap

from countgen.printable import printable

UNLIMITED = 10**6
"""Columns where there is no terminal: a pipe gets whole lines, which programs can read."""


def fitted(text: str, hang: int = 2) -> str:
    """One line, broken between words where the terminal is narrower; COLUMNS in the environment says how wide it is.

    Args:
        text: one line; words that are longer than a line, such as paths, stay whole. Whatever a terminal would obey is
            escaped.
        hang: by which the further lines are indented; less where they would have no room.
    """
    text = printable(text)
    columns = shutil.get_terminal_size((UNLIMITED, 24)).columns
    if len(text) <= columns:
        return text
    further = " " * (hang if hang <= columns // 2 else 2)
    return textwrap.fill(
        text,
        columns,
        subsequent_indent=further,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
