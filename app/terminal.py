"""Text that is wrapped to the width of the terminal."""

from __future__ import annotations

import shutil
import textwrap

from countgen.printable import printable

UNLIMITED = 10**6
"""Width without a terminal: programs that read from a pipe get unwrapped lines."""


def fitted(text: str, hang: int = 2) -> str:
    """Return a line wrapped between words to the width of the terminal, or of the variable COLUMNS.

    Args:
        text: one line; control characters are escaped, and words longer than a line, such as paths, are not broken.
        hang: indentation of the following lines; 2 where it would exceed half the width.
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
