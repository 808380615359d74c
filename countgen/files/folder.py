"""Paths in a folder that others may have made, such as the run of an evaluation: they may be links to anywhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from filelock import FileLock, Timeout

from countgen.errors import FolderInUseError
from countgen.files.printable import printable
from countgen.files.reading import type_name

LOCK = "lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, which the system releases at any end of the process.

    Raises:
        FolderInUseError: another process holds it.
    """
    try:
        lock = FileLock(writable_path(folder, LOCK), timeout=0, mode=0o644).acquire()
    except Timeout as error:
        message = f"{printable(folder)} is in use by another run; wait for it, or choose another folder"
        raise FolderInUseError(message) from error
    with lock:
        yield


def writable_path(folder: Path, name: str | Path) -> Path:
    """Return the path of a file in a folder, new or to be written, after a check that it leads nowhere else.

    Args:
        folder: may be a link itself, and need not exist.
        name: relative to the folder.

    Raises:
        ValueError: the name leads outside the folder, one of its parts is a link, or the file is not a regular one with
            a single name.
    """
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts:
        raise ValueError(f"{printable(name)} is outside the folder {printable(folder)}")
    path = folder
    for depth, part in enumerate(parts, start=1):
        path /= part
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        mode = status.st_mode
        if stat.S_ISLNK(mode):
            reason = "a link"
        elif depth < len(parts):
            reason = "" if stat.S_ISDIR(mode) else "not a folder"
        elif not stat.S_ISREG(mode):
            reason = type_name(mode)
        else:
            reason = "" if status.st_nlink == 1 else "a file with several hard links"
        if reason:
            raise ValueError(f"{printable(path)} is {reason}, which is not written to; take it out of the folder")
    return path


def open_writable(folder: Path, name: str) -> FileIO:
    """Open a file of a folder for reading and writing, unbuffered; it is created if it is missing.

    Raises:
        ValueError: as `writable_path`.
        OSError: the file cannot be opened.
    """
    path = writable_path(folder, name)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return FileIO(os.open(path, flags, 0o666), "r+b")


def output_path(path: Path, folders: Iterable[Path]) -> Path:
    """Return a path that the user chose, checked as `writable_path` if it is in one of the folders.

    Raises:
        ValueError: as `writable_path`.
    """
    given = Path(os.path.abspath(path))
    for folder in map(os.path.abspath, folders):
        if given.is_relative_to(folder):
            writable_path(Path(folder), given.relative_to(folder))
    return path


def readable_path(folder: Path, name: str | Path) -> Path | None:
    """Return the path of a file in a folder, or None if it is missing or lies outside the folder."""
    try:
        path = (folder / name).resolve()
    except (OSError, ValueError, RuntimeError):  # a name with NUL, or a loop of links
        return None
    return path if path.is_relative_to(folder.resolve()) and path.is_file() else None
