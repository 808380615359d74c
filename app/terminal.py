"""Text that is wrapped to the width of the terminal."""

from __future__ import annotations

import shutil
import textwrap

from countgen.files.printable import printable

UNLIMITED = 10**6
"""Width without a terminal: programs that read from a pipe get unwrapped lines."""

_UNBROKEN = "\ue000"
"""Stands for a space at which a line must not be broken; private to Unicode, so that no text holds it printably."""


def fitted(text: str, hang: int = 2, *, path: str = "") -> str:
    """Return a line wrapped between words to the width of the terminal, or of the variable COLUMNS.

    Args:
        text: one line; control characters are escaped, and words longer than a line, such as paths, are not broken.
        hang: indentation of the following lines; 2 where it would exceed half the width.
        path: follows the text, and is never broken.
    """
    text = printable(text)
    if path:
        text += " " + printable(path).replace(" ", _UNBROKEN)
    columns = shutil.get_terminal_size((UNLIMITED, 24)).columns
    if len(text) > columns:
        further = " " * (hang if hang <= columns // 2 else 2)
        text = textwrap.fill(
            text,
            columns,
            subsequent_indent=further,
            replace_whitespace=False,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return text.replace(_UNBROKEN, " ")
