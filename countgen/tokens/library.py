"""Lookup of count tokens: shipped ones by name, others by their file."""

from __future__ import annotations

from pathlib import Path

from countgen import miniature
from countgen.tokens.file import SUFFIX, CountToken, load_token

FOLDER = miniature.FOLDER / "tokens"
"""The folder of the shipped tokens: a folder per backbone, a file per count, as in "miniature/count-7.safetensors"."""


def available_tokens(backbone_name: str) -> dict[str, CountToken]:
    """Return the shipped tokens of a backbone by name ("count-7"), in the order of their counts."""
    tokens = [load_token(path) for path in _shipped_files(backbone_name).values()]
    return {token.name: token for token in sorted(tokens, key=lambda token: token.target_count)}


def find_token(name_or_path: str, backbone_name: str) -> CountToken:
    """Return the shipped token of a name, with or without brackets, or the token in a file.

    Raises:
        TokenFileError: the file holds no valid token.
        ValueError: it is neither the name of a shipped token nor a file.
    """
    shipped = _shipped_files(backbone_name)
    name = name_or_path.strip("<>")
    if name in shipped:
        return load_token(shipped[name])
    if Path(name_or_path).exists():  # loading raises if it is not a regular file
        return load_token(name_or_path)
    names = sorted(shipped, key=lambda name: (len(name), name))
    raise ValueError(
        f"no token {name_or_path!r}: no such file, and the tokens shipped for {backbone_name} are "
        f"{', '.join(names) or 'none'}; train one with `countgen tokens learn`"
    )


def _shipped_files(backbone_name: str) -> dict[str, Path]:
    # The name is compared with existing folders, so that a name from a form cannot refer to any other path.
    return {path.stem: path for path in FOLDER.glob(f"*/*{SUFFIX}") if path.parent.name == backbone_name}
