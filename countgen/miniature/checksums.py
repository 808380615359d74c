"""Checksums of the embedded data, so that a damaged or half-copied installation says so.

`python -m countgen.miniature.checksums` writes them anew after the weights were trained again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent
FILE = FOLDER / "SHA256SUMS"
"""One "hash  path" a line, as `sha256sum --check` reads it."""

_SUFFIXES = {".json", ".md", ".png", ".safetensors", ".txt", ".yaml"}


def measured(folder: Path = FOLDER) -> dict[str, str]:
    """SHA-256 of every data file below a folder, by its path with forward slashes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in _SUFFIXES and path.is_file():
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def recorded(folder: Path = FOLDER) -> dict[str, str]:
    """What `SHA256SUMS` says.

    Raises:
        FileNotFoundError: the file is not there.
    """
    lines = (folder / FILE.name).read_text(encoding="ascii").splitlines()
    return {path: digest for digest, _, path in (line.partition("  ") for line in lines)}


def problems(folder: Path = FOLDER) -> list[str]:
    """What differs from `SHA256SUMS`, one line a file; empty where all is well."""
    try:
        right = recorded(folder)
    except FileNotFoundError:
        return [f"{FILE.name} is missing"]
    there = measured(folder)
    missing = [f"{path} is missing" for path in right if path not in there]
    changed = [f"{path} is damaged or changed" for path in right if path in there and there[path] != right[path]]
    unknown = [f"{path} is not in {FILE.name}" for path in there if path not in right]
    return missing + changed + unknown


def write(folder: Path = FOLDER) -> None:
    """Write `SHA256SUMS` from what is there."""
    lines = [f"{digest}  {path}\n" for path, digest in measured(folder).items()]
    (folder / FILE.name).write_text("".join(lines), encoding="ascii")


if __name__ == "__main__":
    write()
