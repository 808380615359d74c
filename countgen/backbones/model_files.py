"""Files of a model on the disk: their name and digest in records, and errors of the libraries that read them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from countgen.errors import CountGenError
from countgen.files.hub import SINGLE_FILE
from countgen.files.printable import printable

LONGEST_REASON = 400
"""Characters of a library's message that are shown."""
_OUT_OF_MEMORY = re.compile(r"[Oo]ut of memory|can't allocate memory|not enough memory|ALLOC_FAILED")
"""Messages of CUDA, of its libraries and of torch's CPU allocator, whose errors have no class of their own."""


def weight_files(path: Path) -> list[Path]:
    """Return the weight files of a folder, sorted, or a single file itself."""
    return sorted(path.rglob(f"*{SINGLE_FILE}")) if path.is_dir() else [path]


def digest(path: Path) -> str:
    """Return a SHA-256 of the size and the beginning of every weight file; hashing whole files would take seconds."""
    sha256 = hashlib.sha256()
    for file in weight_files(path):
        sha256.update(str(file.stat().st_size).encode())
        with file.open("rb") as opened:
            sha256.update(opened.read(2**20))
    return sha256.hexdigest()


def public_name(repository: str) -> str:
    """Return a repository's name without the path of a local folder or file."""
    return Path(repository).resolve().name if Path(repository).exists() else repository


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that memory ran out, on a GPU or a CPU."""
    return isinstance(error, MemoryError) or bool(_OUT_OF_MEMORY.search(str(error)))


@contextmanager
def readable(failure: str) -> Iterator[None]:
    """Raise a ValueError in place of whatever a library raises for a model that it cannot use.

    Errors of ours and of the operating system, and lack of memory, stay what they are.

    Args:
        failure: what cannot be done, for the message.
    """
    try:
        yield
    except CountGenError:
        raise
    except OSError as error:
        if len(str(error)) <= 2 * LONGEST_REASON:
            raise
        raise OSError(f"{failure}: {_shown(error)}") from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"{failure}: {kind}{_shown(error)}") from error


def _shown(error: Exception) -> str:
    return printable(" ".join(str(error).split()), LONGEST_REASON)
