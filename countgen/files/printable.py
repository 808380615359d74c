"""Text of unknown origin, made safe to show in a terminal."""

from __future__ import annotations

MAX_LINE = 1000
"""Characters of a line that is shown."""


def printable(text: object, longest: int = MAX_LINE) -> str:
    r"""Return text on one line, with escapes for what a terminal obeys or cannot show, and the middle cut out if long.

    Escaped are control characters, line breaks, marks that change the direction of reading, and lone surrogates.

    Args:
        text: from a file or a command line; other values are shown as `str` writes them.
        longest: maximal number of characters of the result.

    >>> printable("a\x1b[31mred\n"), printable("0123456789", longest=7)
    ('a\\x1b[31mred\\n', '012…789')
    """
    try:
        text = str(text)
    except RecursionError:
        text = "a value that is nested too deeply"
    half = longest // 2
    if len(text) > longest:  # before escaping, which would take long for text of 4 MiB
        text = f"{text[:half]}…{text[-half:]}"
    if not text.isprintable():
        text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"
