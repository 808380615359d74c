"""Lookup of noise adapters: shipped ones by name, others by their file."""

from __future__ import annotations

from collections.abc import Sequence

from countgen import miniature
from countgen.adapters.adapter import NoiseAdapter, of_another_model
from countgen.adapters.file import load_adapter
from countgen.backbones.registry import presets
from countgen.learning.shipped import file_of, shipped_files

FOLDER = miniature.FOLDER / "adapters"
"""The folder of the shipped adapters: a folder per backbone, as in "miniature/noise.safetensors"."""


def available_adapters(backbone_name: str) -> dict[str, NoiseAdapter]:
    """Return the shipped adapters of a backbone by name, sorted.

    Raises:
        AdapterFileError: a shipped file is damaged.
    """
    return {name: load_adapter(path) for name, path in sorted(shipped_files(FOLDER, backbone_name).items())}


def find_adapter(name_or_path: str, backbone_name: str) -> NoiseAdapter:
    """Return the shipped adapter of a name, or the adapter in a file.

    Raises:
        AdapterFileError: the file holds no valid adapter, or one of another preset.
        ValueError: it is neither the name of a shipped adapter nor a file.
    """
    shipped = shipped_files(FOLDER, backbone_name)
    adapter = load_adapter(file_of(name_or_path, shipped, what="adapter", backbone_name=backbone_name))
    if backbone_name in presets() and adapter.base_model.partition(":")[0] != backbone_name:
        raise of_another_model(adapter, backbone_name)
    return adapter


def chosen_adapter(given: Sequence[str], backbone_name: str) -> NoiseAdapter | None:
    """Return the one adapter that the options of a command name, or None if they name none.

    Raises:
        AdapterFileError, ValueError: several, or as `find_adapter`.
    """
    if len(given) > 1:
        raise ValueError(f"one noise adapter is used at a time, got {len(given)}: {', '.join(given)}; give one")
    return find_adapter(given[0], backbone_name) if given else None


def shipped_adapter(backbone_name: str) -> NoiseAdapter:
    """Return the first of the adapters shipped for a backbone.

    Raises:
        ValueError: none is shipped.
    """
    shipped = available_adapters(backbone_name)
    if not shipped:
        raise ValueError(
            f"no noise adapter is shipped for {backbone_name}; train one with `countgen learn-adapter` and give its "
            "file with --adapter"
        )
    return next(iter(shipped.values()))
