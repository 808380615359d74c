"""Locks between processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of a file, which the system releases at any end of the process; yield whether it is held.

    Args:
        path: an empty file, created if it is missing; it stays.
        wait: until the process that holds the lock releases it.

    Raises:
        OSError: the file cannot be opened.
    """
    lock = FileLock(path, timeout=-1 if wait else 0, mode=0o644)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
