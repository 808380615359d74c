"""Bounded reads of regular files."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from countgen.files.printable import printable

_OTHERS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading; links are followed.

    Raises:
        ValueError: a folder, a pipe or a device, where reading would block or never end.
        OSError: the file is missing or cannot be read.
    """
    # Without O_NONBLOCK, opening a pipe waits for a process that writes into it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise ValueError(f"{printable(path)} is {type_name(mode)}; give a regular file")
    return os.fdopen(descriptor, "rb")


def type_name(mode: int) -> str:
    """Return what a path leads to, by the mode of a file that is not regular."""
    return _OTHERS.get(stat.S_IFMT(mode), "a device")


def read_text(path: str | Path, limit: int) -> str:
    """Return the content of a UTF-8 file of at most `limit` bytes, without its byte order mark.

    Raises:
        ValueError: as `read_bytes`, or the file is not UTF-8.
        OSError: the file is missing or cannot be read.
    """
    try:
        return read_bytes(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"{error.reason} at byte {error.start}"
        raise ValueError(f"{printable(path)} is not UTF-8 text ({where}); save it as UTF-8") from error


def read_bytes(path: str | Path, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes.

    Raises:
        ValueError: as `open_regular`, or the file is larger.
        OSError: the file is missing or cannot be read.
    """
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{printable(path)} is larger than {limit} bytes, the most that is read")
    return data
