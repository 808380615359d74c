"""The weight files of a model that are on this machine: how large they are, and which are missing."""

from __future__ import annotations

from pathlib import Path

from countgen.backbones.preset import Preset
from countgen.files.hub import SINGLE_FILE, at_revision, resolve

DENOISERS = ("unet", "transformer")


def described(name: str, preset: Preset) -> str:
    """Return a model's name with the size of its weights, or that they are downloaded first.

    >>> from countgen.backbones.registry import find
    >>> described("miniature", find("miniature")[1])
    'miniature (18 MB)'
    """
    size = bytes_here(preset)
    if size is None:
        return f"{name} (to be downloaded)"
    amount = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
    return f"{name} ({amount}{'' if Path(preset.repository).exists() else ', cached'})"


def bytes_here(preset: Preset) -> int | None:
    """Return the size in bytes of a model's weights on this machine; None if some are missing.

    The cache of the hub is searched; nothing is downloaded.
    """
    sizes = _components(preset.repository, preset.revision, preset.variant)
    if preset.denoiser is not None and sizes:
        replaced = _components(*at_revision(preset.denoiser), preset.variant)
        denoiser = {name: size for name, size in replaced.items() if name in ("", *DENOISERS)}
        sizes = denoiser and denoiser | {name: size for name, size in sizes.items() if name not in DENOISERS}
    known = [size for size in sizes.values() if size is not None]
    return sum(known) if known and len(known) == len(sizes) else None


def _components(source: str, revision: str | None, variant: str | None) -> dict[str, int | None]:
    """Return the size of the weights in each component's folder, None for missing ones; a single file has no name."""
    try:
        path = resolve(source, ["*"], revision=revision, download=False)
    except OSError:
        return {}
    if path.suffix == SINGLE_FILE:
        return {"": path.stat().st_size} if path.is_file() else {}
    return {config.parent.name: _size(config.parent, variant) for config in path.glob("*/config.json")}


def _size(folder: Path, variant: str | None) -> int | None:
    """Return the size of a component's weights, of the variant if it has one; None if a file is missing."""
    files = list(folder.glob(f"*{SINGLE_FILE}"))
    of_variant = [file for file in files if f".{variant}" in file.name]
    weights = of_variant or [file for file in files if "." not in file.stem]
    # Shards are numbered as in model-00001-of-00002.safetensors.
    number = max((int(file.stem.rpartition("-of-")[2]) for file in weights if "-of-" in file.stem), default=1)
    return sum(file.stat().st_size for file in weights) if len(weights) >= number else None
