"""Find which files of a detector would have to be downloaded, before a large model is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import constants

from countgen.critics.catalogue import FACTS
from countgen.critics.ultralytics_files import KINDS, PRESETS
from countgen.files.hub import cached, locate, unreachable

FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
_HUB_KINDS = {
    **dict.fromkeys(("detr", "grounding_dino", "owl"), FILES),
    # Their other files have names of their own: shards, and processors in one file.
    **dict.fromkeys(("sam3", "vlm"), ("config.json",)),
}
"""Kinds whose weights are repositories, with the files that are looked for."""


@dataclass(frozen=True)
class Missing:
    """Files of a detector that are not here.

    Attributes:
        detector: its name.
        files: theirs.
        source: where they are published.
        folder: where they are looked for.
        instead: what to write for files that are elsewhere.
    """

    detector: str
    files: tuple[str, ...]
    source: str
    folder: str
    instead: str

    def __str__(self) -> str:
        facts = FACTS.get(self.detector)
        size = f" ({facts.megabytes} MB)" if facts else ""
        return f"{self.detector}{size}: {', '.join(self.files)} of {self.source}"


def missing_files(kind: str, weights: str, revision: str | None, detector: str) -> Missing | None:
    """Return the files that a detector lacks; None if all are here, or if it is read from the user's own file.

    Args:
        kind: the critic's file in `critics/detectors`.
        weights, revision: as its `load` takes them.
        detector: its name, for the message.

    Raises:
        ValueError: neither a folder nor a repository's name.
    """
    if Path(weights).exists() or not weights:
        return None
    if kind == "torchvision":
        return _of_torchvision(weights, revision, detector)
    if kind in KINDS:
        owner, _, file = PRESETS.get(weights, weights).rpartition("/")
        if owner.count("/") != 1:
            return None  # a path, which the critic checks itself
        return _of_hub(owner, (file,), revision, detector, f"{kind}:FILE.pt")
    if kind in _HUB_KINDS:
        repository, own = locate(weights, importlib.import_module(f"countgen.critics.detectors.{kind}").PRESETS)
        return _of_hub(repository, _HUB_KINDS[kind], revision or own, detector, f"{kind}:FOLDER")
    return None


def _of_hub(
    repository: str, files: tuple[str, ...], revision: str | None, detector: str, instead: str
) -> Missing | None:
    lost = tuple(file for file in files if cached(repository, file, revision) is None)
    source = f"{repository}@{revision}" if revision else repository
    return Missing(detector, lost, source, constants.HF_HUB_CACHE, instead) if lost else None


def _of_torchvision(weights: str, revision: str | None, detector: str) -> Missing | None:
    from torchvision.models import detection, get_model_weights, list_models

    if weights not in list_models(detection) or (revision is not None and Path(revision).suffix):
        return None
    choices = get_model_weights(weights).__members__
    if (revision or "DEFAULT") not in choices:
        return None
    url = choices[revision or "DEFAULT"].url
    folder, file = Path(torch.hub.get_dir()) / "checkpoints", url.rsplit("/", 1)[-1]
    instead = f"torchvision:{weights}@FILE"
    return None if (folder / file).is_file() else Missing(detector, (file,), url, str(folder), instead)


def check_downloadable(missing: Iterable[Missing]) -> None:
    """Raise if HF_HUB_OFFLINE is set, or if the hub does not answer, and files have to come from there.

    Raises:
        FileNotFoundError: which files to bring, and where.
    """
    needed = [files for files in missing if constants.HF_HUB_OFFLINE or "://" not in files.source]
    if needed and (reason := unreachable()):
        folders = dict.fromkeys(f"{files.folder} (or write {files.instead})" for files in needed)
        raise FileNotFoundError(
            f"{reason} and files are missing: {'; '.join(map(str, needed))}. Bring them from a machine with a network "
            f"into {', '.join(folders)}"
        )
