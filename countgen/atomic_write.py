"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(data: bytes, path: Path) -> None:
    """Write a file in one step, replacing one of that name; whoever reads it sees the old one or the new one.

    Raises:
        OSError: the disk is full, or the folder is missing or not writable; nothing half-written is left behind.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".countgen-", suffix=".part", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # A temporary file is private to its owner.
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
