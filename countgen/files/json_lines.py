"""Files of JSON lines that are appended to and never changed: records, labels, judgements."""

from __future__ import annotations

import lzma
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeVar

from countgen.errors import CountGenError
from countgen.files.folder import open_writable
from countgen.files.printable import printable
from countgen.files.reading import open_regular, read_bytes
from countgen.files.schema import Document, decoded, encoded

MAX_BYTES = 512 * 2**20
"""Largest size of a file that is read."""


class Line(Document, frozen=True, kw_only=True):
    """The document of a line."""

    schema: Literal[1] = 1

    def to_line(self) -> bytes:
        """Return one line of JSON, with its newline."""
        return encoded(self) + b"\n"


LineT = TypeVar("LineT", bound=Line)


class RecordWriteError(CountGenError, OSError):
    """A line could not be written; all earlier ones are unchanged."""


def read_lines(path: Path, kind: type[LineT], advice: str = "") -> Iterator[LineT]:
    """Yield the document of each line of a file; nothing if the file is missing.

    Args:
        path: of the file, which may be packed by xz.
        kind: class of the documents.
        advice: end of the message about a damaged line.

    Raises:
        ValueError: a damaged line before the last; an incomplete last line, which is still being written, is left out.
            Or what is packed is damaged.
        OSError: the file cannot be read.
    """
    whole, _ = split_torn(_content(path) if path.exists() else b"")
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            yield decoded(line, kind)
        except ValueError as error:
            raise ValueError(
                f"{printable(path)}, line {number} is not a {kind.__name__.lower()}: {error}; take "
                f"that line out of the file{advice}"
            ) from error


def _content(path: Path) -> bytes:
    if path.suffix != ".xz":
        return read_bytes(path, MAX_BYTES)
    try:
        with open_regular(path) as packed, lzma.open(packed) as file:
            content: bytes = file.read(MAX_BYTES + 1)
    except (EOFError, lzma.LZMAError) as error:
        raise ValueError(f"{printable(path)} cannot be unpacked: {error}") from error
    if len(content) > MAX_BYTES:
        raise ValueError(f"{printable(path)} unpacks to more than {MAX_BYTES} bytes")
    return content


def split_torn(content: bytes) -> tuple[bytes, bytes]:
    """Return complete lines and an incomplete last one; a line that lacks only its newline is complete."""
    end = content.rfind(b"\n") + 1
    tail = content[end:]
    with suppress(ValueError):
        decoded(tail, dict)
        return content + b"\n", b""
    return content[:end], tail


class LineFile:
    """A file of a folder to which lines are appended; each is on the disk when `append` returns.

    An incomplete last line is removed first. Use it as a context manager.

    Raises:
        RecordWriteError: the file cannot be written.
        ValueError: it is a link, or leads outside the folder in another way.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / name
        try:
            self._file = open_writable(folder, name)
            content = self._file.readall()
            whole, _ = split_torn(content)
            self._size = len(whole)
            if whole != content:
                # A line that lacks only its newline gets it; an incomplete one is removed.
                os.ftruncate(self._file.fileno(), min(len(whole), len(content)))
                os.pwrite(self._file.fileno(), whole[len(content) :], len(content))
                os.fsync(self._file.fileno())
        except OSError as error:
            raise RecordWriteError(error.errno, f"cannot write {printable(self.path)}: {error.strerror}") from error

    def __enter__(self) -> LineFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, line: bytes) -> None:
        """Append a line that ends in a newline, atomically.

        Raises:
            RecordWriteError: the disk is full or failed.
        """
        file = self._file.fileno()
        try:
            written = 0
            while written < len(line):
                written += os.pwrite(file, line[written:], self._size + written)
            os.fsync(file)
        except OSError as error:
            with suppress(OSError):  # an incomplete line is removed when the file is opened again
                os.ftruncate(file, self._size)
            raise RecordWriteError(
                error.errno,
                f"cannot write to {printable(self.path)}: {error.strerror}; make room and give the same command again, "
                "what is finished is kept",
            ) from error
        self._size += len(line)
