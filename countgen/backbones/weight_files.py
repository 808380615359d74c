"""The weight files of a model that are on this machine: how large they are, and which are missing."""

from __future__ import annotations

import json
from pathlib import Path

from countgen.backbones.loading import SINGLE_FILE, at_revision
from countgen.backbones.preset import Preset


def described(name: str, preset: Preset) -> str:
    """Return a model's name with the size of its weights, or that they are downloaded first.

    >>> from countgen.backbones.registry import find
    >>> described("miniature", find("miniature")[1])
    'miniature (18 MB)'
    """
    size = bytes_here(preset)
    if size is None:
        return f"{name} (to be downloaded)"
    return f"{name} ({in_megabytes(size)}{'' if Path(preset.repository).exists() else ', cached'})"


def in_megabytes(size: int) -> str:
    """Return a number of bytes in MB, or GB from 1000 MB on."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def bytes_here(preset: Preset) -> int | None:
    """Return the size in bytes of a model's weights on this machine; None where some are not here.

    A model on the hub is looked for in the cache of the hub; nothing is downloaded.
    """
    sizes = [_size(preset.repository, preset.revision, preset.variant, without=preset.denoiser is not None)]
    if preset.denoiser is not None:
        sizes.append(_denoiser_size(*at_revision(preset.denoiser), preset.variant))
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _size(repository: str, revision: str | None, variant: str | None, *, without: bool = False) -> int | None:
    """Return the size of a repository's weights; `without` its U-Net or transformer if that is set."""
    if repository.endswith(SINGLE_FILE):
        path = Path(repository) if Path(repository).is_file() else _cached_file(repository, revision)
        return None if path is None else path.stat().st_size
    index: Path | None = Path(repository) / "model_index.json"
    if not Path(repository).is_dir():
        index = _cached(repository, "model_index.json", revision)
    if index is None or not index.is_file():
        return None
    folder, parts = index.parent, json.loads(index.read_text("utf-8"))
    names = [name for name in parts if (folder / name / "config.json").is_file()]
    weights = [_weights(folder / name, variant) for name in names if not (without and name in ("unet", "transformer"))]
    if not weights or not all(weights):
        return None
    return sum(file.stat().st_size for files in weights for file in files)


def _denoiser_size(repository: str, revision: str | None, variant: str | None) -> int | None:
    """Return the size of the weights of a U-Net or transformer; its repository need not be a whole pipeline."""
    if repository.endswith(SINGLE_FILE):
        return _size(repository, revision, variant)
    for part in ("unet", "transformer"):
        config: Path | None = Path(repository) / part / "config.json"
        if not Path(repository).is_dir():
            config = _cached(repository, f"{part}/config.json", revision)
        if config is not None and config.is_file() and (files := _weights(config.parent, variant)):
            return sum(file.stat().st_size for file in files)
    return None


def _weights(folder: Path, variant: str | None) -> list[Path]:
    """Return the weight files of a component, those of the variant where there are any; none if one is missing."""
    suffixes = [f".{variant}", ""] if variant else [""]
    for suffix in suffixes:
        for index in folder.glob(f"*{SINGLE_FILE}.index{suffix}.json"):
            shards = [folder / name for name in set(json.loads(index.read_text("utf-8"))["weight_map"].values())]
            return shards if all(shard.is_file() for shard in shards) else []
        files = [file for file in folder.glob(f"*{suffix}{SINGLE_FILE}") if suffix or file.stem.count(".") == 0]
        if files:
            return files[:1]
    return []


def _cached_file(name: str, revision: str | None) -> Path | None:
    """Return OWNER/NAME/FILE where the hub's cache holds it."""
    owner, _, rest = name.partition("/")
    repository, _, file = rest.partition("/")
    return _cached(f"{owner}/{repository}", file, revision) if file else None


def _cached(repository: str, file: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, file, revision=revision)
    return Path(found) if isinstance(found, str) else None
