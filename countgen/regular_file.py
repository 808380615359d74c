"""Files that others wrote, told apart from what only looks like a file."""

from __future__ import annotations

from pathlib import Path


def check_regular(path: Path) -> Path:
    """Return a path, unless a pipe, a device or a folder is there: reading would wait for it, or never end.

    Raises:
        ValueError: it is none of a file and a free name.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no file but a pipe, a device or a folder; give a file")
    return path
