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

_HUB_KINDS = {
    **dict.fromkeys(("detr", "grounding_dino", "owl"), "model.safetensors"),
    **dict.fromkeys(("sam3", "vlm"), "config.json"),  # their weights have names of their own
}
"""Kinds whose weights are repositories, with the file that is looked for: the largest, which arrives last."""


@dataclass(frozen=True)
class Missing:
    """A detector whose files are not here.

    Attributes:
        detector: its name.
        source: where its files are published.
        folder: where they are looked for.
        instead: what to write for files that are elsewhere.
    """

    detector: str
    source: str
    folder: str
    instead: str

    def __str__(self) -> str:
        facts = FACTS.get(self.detector)
        return f"{self.detector}{f' ({facts.megabytes} MB)' if facts else ''} from {self.source}"


def missing_files(kind: str, weights: str, revision: str | None, detector: str) -> Missing | None:
    """Return a detector whose files are not here; None if they are, or if it is read from the user's own file.

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
    if kind in _HUB_KINDS:
        repository, own = locate(weights, importlib.import_module(f"countgen.critics.detectors.{kind}").PRESETS)
        place, file, revision, instead = repository, _HUB_KINDS[kind], revision or own, f"{kind}:FOLDER"
    elif kind in KINDS:
        place = PRESETS.get(weights, weights)
        repository, _, file = place.rpartition("/")
        instead = f"{kind}:FILE.pt"
        if repository.count("/") != 1:
            return None  # a path, which the critic checks itself
    else:
        return None
    if cached(repository, file, revision):
        return None
    return Missing(detector, f"{place}@{revision}" if revision else place, constants.HF_HUB_CACHE, instead)


def _of_torchvision(weights: str, revision: str | None, detector: str) -> Missing | None:
    from torchvision.models import detection, get_model_weights, list_models

    if weights not in list_models(detection) or (revision is not None and Path(revision).suffix):
        return None
    published = get_model_weights(weights).__members__.get(revision or "DEFAULT")
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if published is None or (folder / published.url.rsplit("/", 1)[-1]).is_file():
        return None
    return Missing(detector, published.url, str(folder), f"torchvision:{weights}@FILE")


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
