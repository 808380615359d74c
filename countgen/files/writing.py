"""Atomic writes."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path

PARTS = ".countgen-*.part"
"""Pattern of the names of unfinished files; a process that is killed leaves one behind."""

_NO_HARD_LINKS = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""Errors of file systems without hard links, such as FAT and some network mounts."""


def write_atomically(data: bytes, path: Path, *, overwrite: bool = True) -> None:
    """Write a file atomically: a reader sees either all of it, or what was there before, also after a loss of power.

    A link at `path` is replaced, and the file that it leads to stays as it is.

    Args:
        data: content of the file.
        path: in an existing folder.
        overwrite: replace an existing file.

    Raises:
        FileExistsError: the file exists and must not be replaced.
        OSError: the disk is full, or the folder is missing or not writable; no partial file is left behind.
    """
    # Not tempfile, whose files are private to their owner.
    part = path.parent / PARTS.replace("*", secrets.token_hex(8))
    with part.open("xb") as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if overwrite:
                os.replace(part, path)
            else:
                _move(part, path)
        finally:
            part.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with suppress(OSError):  # some network file systems cannot sync a folder
        os.fsync(folder)
    os.close(folder)


def _move(part: Path, path: Path) -> None:
    """Rename a file to a free name, or raise FileExistsError, also if two processes use one name at a time."""
    try:
        os.link(part, path)  # never replaces
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # Only the process that created the empty file may replace it.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            os.replace(part, path)
        except OSError:
            path.unlink(missing_ok=True)
            raise
