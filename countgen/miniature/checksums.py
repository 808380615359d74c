"""Checksums of the embedded data, by which a damaged or incomplete installation is found.

`python -m countgen.miniature.checksums` writes them again after data files changed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent
FILE = FOLDER / "SHA256SUMS"
"""The file of the checksums, with one "hash  path" per line, as `sha256sum --check` reads it."""

_SUFFIXES = {".json", ".md", ".safetensors", ".yaml"}


def measured(folder: Path = FOLDER) -> dict[str, str]:
    """Return the SHA-256 of every data file below a folder, by its path with forward slashes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in _SUFFIXES and path.is_file():
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def recorded(folder: Path = FOLDER) -> dict[str, str]:
    """Return the checksums in `SHA256SUMS` by path.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    lines = (folder / FILE.name).read_text(encoding="ascii").splitlines()
    return {path: digest for digest, _, path in (line.partition("  ") for line in lines)}


def problems(folder: Path = FOLDER) -> list[str]:
    """Return one line for each file that differs from `SHA256SUMS`; an empty list means that all files are intact."""
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
    """Write `SHA256SUMS` from the present files."""
    lines = [f"{digest}  {path}\n" for path, digest in measured(folder).items()]
    (folder / FILE.name).write_text("".join(lines), encoding="ascii")


if __name__ == "__main__":
    write()
