"""The count tokens that are shipped, and any other by its file."""

from __future__ import annotations

from pathlib import Path

from countgen import miniature
from countgen.tokens.file import SUFFIX, CountToken, load_token

FOLDER = miniature.FOLDER / "tokens"
"""Holds a folder per backbone, in it a file per count: "miniature/count-7.safetensors"."""


def available_tokens(backbone_name: str) -> dict[str, CountToken]:
    """The shipped tokens of a backbone by name ("count-7"), fewest objects first; empty where there are none.

    Raises:
        TokenFileError: a shipped file is damaged.
    """
    tokens = [load_token(path) for path in _files(backbone_name).values()]
    return {token.name: token for token in sorted(tokens, key=lambda token: token.target_count)}


def find_token(name_or_path: str, backbone_name: str) -> CountToken:
    """A shipped token by its name, with or without brackets, otherwise the one in a file.

    Raises:
        TokenFileError: the file holds no valid token.
        ValueError: neither a shipped name nor a file.
    """
    shipped = _files(backbone_name)
    name = name_or_path.strip("<>")
    if name in shipped:
        return load_token(shipped[name])
    if Path(name_or_path).is_file():
        return load_token(name_or_path)
    raise ValueError(
        f"no token {name_or_path!r}: no such file, and the tokens shipped for {backbone_name} are "
        f"{', '.join(available_tokens(backbone_name)) or 'none'}; learn one with `countgen learn-token`"
    )


def _files(backbone_name: str) -> dict[str, Path]:
    # Only folders that are there: a name from a prompt or a form can lead nowhere else.
    folders = {path.name: path for path in FOLDER.glob("*") if path.is_dir()}
    if backbone_name not in folders:
        return {}
    return {path.stem: path for path in folders[backbone_name].glob(f"*{SUFFIX}")}
