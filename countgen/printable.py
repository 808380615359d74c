"""Text of unknown origin, made safe to show in a terminal."""

from __future__ import annotations

MAX_LINE = 1000
"""Characters of a line that is shown."""


def printable(text: object, longest: int = MAX_LINE) -> str:
    r"""Return the text with whatever a terminal would obey or could not show as an escape, shortened in its middle.

    Escaped are control characters, line breaks, marks that turn the direction of reading, and half surrogate pairs.

    Args:
        text: from a file or a command line; anything else is shown as `str` has it.
        longest: characters of the result at most.

    >>> printable("a\x1b[31mred\n"), printable("0123456789", longest=7)
    ('a\\x1b[31mred\\n', '012…789')
    """
    text = str(text)
    half = longest // 2
    if len(text) > longest:  # cut first: escapes are made of a part of 4 MiB, not of all
        text = f"{text[:half]}…{text[-half:]}"
    if not text.isprintable():
        text = "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"
