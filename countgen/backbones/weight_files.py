"""The weight files of a model that are on this machine: how large they are, and which are missing."""

from __future__ import annotations

from pathlib import Path

from countgen.backbones.preset import Preset
from countgen.files.hub import SINGLE_FILE, at_revision, cached
from countgen.files.model_folder import read_json


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
    """Return the size in bytes of a model's weights on this machine; None if some are missing.

    The cache of the hub is searched; nothing is downloaded.
    """
    pipeline = _components(preset.repository, preset.revision, "model_index.json", preset.variant)
    if preset.denoiser is None:
        return None if pipeline is None else sum(pipeline.values())
    denoiser = None
    for part in ("unet", "transformer"):
        denoiser = denoiser or _components(*at_revision(preset.denoiser), f"{part}/config.json", preset.variant)
    if pipeline is None or not denoiser:
        return None
    others = {name: size for name, size in pipeline.items() if name not in ("unet", "transformer")}
    return sum(others.values()) + sum(denoiser.values())


def _components(source: str, revision: str | None, file: str, variant: str | None) -> dict[str, int] | None:
    """Return the size of the weights in each component's folder, or of a single file; None if some are missing."""
    path = Path(source) if Path(source).exists() else cached(source, file, revision)
    if path is None or not path.exists():
        return None
    if path.suffix == SINGLE_FILE:
        return {"": path.stat().st_size}
    folder = path if path.is_dir() else path.parents[file.count("/")]
    configs = folder.glob("*/config.json") if file == "model_index.json" else (folder / file,)
    sizes = {config.parent.name: _size(config.parent, variant) for config in configs if config.is_file()}
    known = {name: size for name, size in sizes.items() if size is not None}
    return known if known and len(known) == len(sizes) else None


def _size(folder: Path, variant: str | None) -> int | None:
    """Return the size of a component's weights, of the variant if it has one; None if a file is missing."""
    for suffix in (f".{variant}", "") if variant else ("",):
        for index in folder.glob(f"*{SINGLE_FILE}.index{suffix}.json"):
            shards = [folder / str(name) for name in set(read_json(index).get("weight_map", {}).values())]
            return sum(file.stat().st_size for file in shards) if all(file.is_file() for file in shards) else None
        files = [file for file in folder.glob(f"*{suffix}{SINGLE_FILE}") if suffix or file.stem.count(".") == 0]
        if files:
            return files[0].stat().st_size
    return None
