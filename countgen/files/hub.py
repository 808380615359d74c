"""Find a model's files: a local path, or what the hub's cache holds or downloads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import constants, get_session, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

SECONDS = 5.0
"""Timeout of the first request to the hub; its library would try for 23 seconds, for every file again."""
SINGLE_FILE = ".safetensors"
VARIANTS = ["*.fp16.*", "*.fp16-*", "*.bf16.*", "*.bf16-*", "*.non_ema.*"]
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form OWNER/NAME."""
    return _HUB_ID.fullmatch(name) is not None and not name.endswith(SINGLE_FILE)


def at_revision(name: str) -> tuple[str, str | None]:
    """Split a hub id, or a file in it, from the revision after its @; an existing path is returned unchanged."""
    if "@" not in name or Path(name).exists():
        return name, None
    repository, _, revision = name.rpartition("@")
    return repository, revision


def locate(weights: str, presets: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the folder or the repository of a model, and the revision that a preset is read at.

    Args:
        weights: a key of `presets`, a repository's name, or a folder.
        presets: short names of repositories, some with "@" and a revision.

    Raises:
        ValueError: it is neither a folder nor a name that a repository can have.
    """
    name, revision = at_revision(presets[weights]) if weights in presets else (str(weights), None)
    if not is_hub_id(name) and not Path(name).is_dir():
        raise ValueError(
            f"the folder {name!r} does not exist; give one that does, or a repository as OWNER/NAME"
            f"{', or one of ' * bool(presets)}{', '.join(presets)}"
        )
    return name, revision


def is_commit(revision: str | None) -> bool:
    """Return whether a revision is a commit, which never changes, and not a branch or a tag."""
    return revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def resolve(
    source: str,
    files: Sequence[str],
    *,
    ignore: Sequence[str] = (),
    revision: str | None = None,
    download: bool = True,
) -> Path:
    """Return the local path of a folder, a file, a repository on the hub, or one file in it.

    Args:
        source: a path, OWNER/NAME or OWNER/NAME/FILE; a path is returned as it is.
        files: those of a repository that are needed, or patterns of them; the first is a file that it must have.
            Empty if only OWNER/NAME/FILE is accepted.
        ignore: patterns of files to leave out, besides weight variants.
        revision: branch, tag or commit.
        download: fetch what the hub's cache does not hold.

    Raises:
        OSError: files are neither in the cache nor to be had; the message says how to get them.
    """
    path, (repository, inside) = Path(source), _repository_and_file(source)
    files = [inside] if inside else list(files)
    if path.exists() or not repository or not files:
        return path
    named = f"{files[0]} of {repository}{f'@{revision}' if revision else ''}"
    if download and not cached(repository, files[0], revision):
        check_answers(named, repository, revision)
    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=files,
            ignore_patterns=[*VARIANTS, *ignore],
            local_files_only=not download or constants.HF_HUB_OFFLINE,
        )
    except (HfHubHTTPError, HFValidationError, EntryNotFoundError) as error:
        raise OSError(
            f"{named} is not in the hub's cache, and the hub does not give it: check the name, accept its licence on "
            "its page and run `hf auth login` if it asks for that, or give a folder"
        ) from error
    return Path(folder) / inside


def cached(source: str, file: str = "", revision: str | None = None) -> Path | None:
    """Return the path of a file of a repository in the hub's cache, also where `source` is OWNER/NAME/FILE."""
    repository, inside = _repository_and_file(source)
    if not repository or "*" in (file := inside or file):
        return None
    path = try_to_load_from_cache(repository, file, revision=revision)
    return Path(path) if isinstance(path, str) else None


def _repository_and_file(source: str) -> tuple[str, str]:
    owner, _, rest = source.partition("/")
    name, _, file = rest.partition("/")
    repository = f"{owner}/{name}"
    return (repository, file) if _HUB_ID.fullmatch(repository) and not name.endswith(SINGLE_FILE) else ("", "")


def unreachable() -> str:
    """Return why nothing can be downloaded from the hub, such as no answer; empty if it answers."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except Exception as error:  # of the hub's HTTP library, which is another one in other versions
        return f"{constants.ENDPOINT} does not answer ({str(error) or type(error).__name__})"
    return ""


def check_answers(missing: str, repository: str, revision: str | None = None) -> None:
    """Raise if the hub is switched off or does not answer.

    Args:
        missing: what is not in the hub's cache, for the message.
        repository: hub id.
        revision: branch, tag or commit.

    Raises:
        OSError: the message says what to fetch, with which command, and where it belongs.
    """
    if not (reason := unreachable()):
        return
    command = f"hf download {repository}" + (f" --revision {revision}" if revision else "")
    folder = f"models--{repository.replace('/', '--')}"
    raise OSError(
        f"{missing} is not in the hub's cache, and {reason}; where there is a network, run `{command}` and bring the "
        f"folder {folder} to {constants.HF_HUB_CACHE}, or give a local folder in its place"
    )
