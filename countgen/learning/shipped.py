"""Files of tokens and adapters that are part of the package."""

from __future__ import annotations

from pathlib import Path

from countgen.learning.tensor_file import SUFFIX


def shipped_files(folder: Path, backbone_name: str) -> dict[str, Path]:
    """Return the files for a backbone by name; `folder` has a folder for each backbone.

    The name is compared with existing folders, so that a name from a form cannot refer to any other path.
    """
    folders = {path.name: path for path in folder.glob("*") if path.is_dir()}
    if backbone_name not in folders:
        return {}
    return {path.stem: path for path in folders[backbone_name].glob(f"*{SUFFIX}")}
