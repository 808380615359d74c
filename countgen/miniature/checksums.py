"""Checksums of the embedded data, by which a damaged or incomplete installation is found.

After a data file changed, in this folder:
`git ls-files '*.json' '*.md' '*.safetensors' '*.yaml' | xargs sha256sum > SHA256SUMS`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent


def recorded(folder: Path = FOLDER) -> dict[str, str]:
    """Return the checksums in `SHA256SUMS` by path; each of its lines is "hash  path"."""
    lines = (folder / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    return {path: digest for digest, _, path in (line.partition("  ") for line in lines)}


def problems(folder: Path = FOLDER) -> list[str]:
    """Return one line for each file that differs from `SHA256SUMS`; an empty list means that all files are intact."""
    if not (folder / "SHA256SUMS").is_file():
        return ["SHA256SUMS is missing"]
    lines = []
    for path, digest in recorded(folder).items():
        if not (folder / path).is_file():
            lines.append(f"{path} is missing")
        elif hashlib.sha256((folder / path).read_bytes()).hexdigest() != digest:
            lines.append(f"{path} is damaged or changed")
    return lines
