"""Repositories on the hub that hold one file of ours and its card."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path


def upload(write: Callable[[str], object], repository: str, message: str, *, private: bool) -> str:
    """Upload what a function writes into a folder to OWNER/NAME and return the commit's URL.

    The repository is created if it does not exist.

    Raises:
        huggingface_hub.errors.HfHubHTTPError: the user is not logged in, or has no permission.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repository, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        write(folder)
        commit = api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
    return str(commit.commit_url)


def downloaded(repository: str | Path, file_name: str, revision: str | None) -> Path:
    """Return the path of a file of a repository: a folder, or OWNER/NAME in the hub's cache or on the hub.

    Raises:
        OSError: it is neither a folder nor in the cache, and could not be downloaded (from huggingface_hub).
    """
    folder = Path(repository)
    if folder.is_dir():
        return folder / file_name
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(str(repository), file_name, revision=revision))


def loading_arguments(base_model: str) -> tuple[str, str]:
    """Return the arguments of `countgen.backbones.load` for a base model, with the closing bracket, and a comment."""
    preset, colon, checkpoint = base_model.partition(":")
    comment = "  # the path of that checkpoint" if colon and "/" not in checkpoint else ""
    return f"{preset!r}, repository={checkpoint!r})" if colon else f"{preset!r})", comment
