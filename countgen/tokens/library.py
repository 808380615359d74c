"""Lookup of count tokens: shipped ones by name, others by their file."""

from __future__ import annotations

from countgen import miniature
from countgen.learning.shipped import file_of, shipped_files
from countgen.tokens.file import CountToken, load_token

FOLDER = miniature.FOLDER / "tokens"
"""The folder of the shipped tokens: a folder per backbone, a file per count, as in "miniature/count-7.safetensors"."""


def available_tokens(backbone_name: str) -> dict[str, CountToken]:
    """Return the shipped tokens of a backbone by name ("count-7"), in the order of their counts.

    Raises:
        TokenFileError: a shipped file is damaged.
    """
    tokens = [load_token(path) for path in shipped_files(FOLDER, backbone_name).values()]
    return {token.name: token for token in sorted(tokens, key=lambda token: token.target_count)}


def find_token(name_or_path: str, backbone_name: str) -> CountToken:
    """Return the shipped token of a name, with or without brackets, or the token in a file.

    Raises:
        TokenFileError: the file holds no valid token.
        ValueError: it is neither the name of a shipped token nor a file.
    """
    shipped = shipped_files(FOLDER, backbone_name)
    name = name_or_path.strip("<>")
    chosen = name if name in shipped else name_or_path
    return load_token(file_of(chosen, shipped, backbone_name=backbone_name))
