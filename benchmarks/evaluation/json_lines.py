"""Read files of JSON lines that are appended to and never changed: records, labels, judgements."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import orjson

from countgen.files.printable import printable
from countgen.files.reading import read_bytes

SCHEMA = 1
"""Schema of every line, whatever it holds."""

MAX_BYTES = 512 * 2**20
"""Largest size of a file that is read."""

LONGEST = 400
"""Number of characters of a reason that a message shows."""

Line = TypeVar("Line")


def read_lines(path: Path, kind: str, read: Callable[[dict[str, Any]], Line], advice: str = "") -> Iterator[Line]:
    """Yield what each line of a file holds; nothing where there is no file.

    Args:
        path: of the file.
        kind: what a line is, for the message.
        read: function from the document of a line; it raises one of the errors of a damaged document.
        advice: end of the message.

    Raises:
        ValueError: a damaged line before the last; a last line that is still being written is left out.
    """
    yield from parsed(read_bytes(path, MAX_BYTES) if path.exists() else b"", path, kind, read, advice)


def parsed(
    content: bytes, path: Path, kind: str, read: Callable[[dict[str, Any]], Line], advice: str = ""
) -> Iterator[Line]:
    """Yield what each line of a file's content holds, as `read_lines`."""
    whole, _ = split_torn(content)
    where = f"{path}, line"
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            found = load_line(line)
            if found["schema"] != SCHEMA:
                raise ValueError(f"it has schema {found['schema']}")
            yield read(found)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            reason = printable(f"no field {error}" if isinstance(error, KeyError) else error, LONGEST)
            raise ValueError(
                f"{where} {number} is no {kind} of schema {SCHEMA}: {reason}; take that line out of the file{advice}"
            ) from error


def split_torn(content: bytes) -> tuple[bytes, bytes]:
    """Return complete lines and an incomplete last one; a line that lacks only its newline is complete."""
    end = content.rfind(b"\n") + 1
    tail = content[end:]
    try:
        if isinstance(json.loads(tail), dict):
            return content + b"\n", b""
    except (ValueError, RecursionError):
        pass
    return content[:end], tail


def load_line(line: bytes) -> Any:
    """Return what a line of JSON holds.

    Raises:
        ValueError, RecursionError: no JSON, or a number that is not finite or longer than 64 bits.
    """
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        # Slower, but reads half a surrogate pair and gives the position of an error.
        return json.loads(line, parse_constant=_refuse_number, parse_int=_int_of_64_bits, parse_float=_finite)


def _refuse_number(text: str) -> Any:
    raise ValueError(f"{text[:40]} is no number that a record holds")


def _int_of_64_bits(text: str) -> int:
    return int(text) if len(text) < 19 else _refuse_number(text)


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_number(text)
