"""Files of count tokens that are part of the package."""

from __future__ import annotations

from collections.abc import Mapping
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


def file_of(name_or_path: str, shipped: Mapping[str, Path], *, backbone_name: str) -> Path:
    """Return the path of a shipped file by its name, or another path as it is given.

    Args:
        name_or_path: name of a shipped file, which comes first, or a path.
        shipped: from `shipped_files`.
        backbone_name: in messages.

    Raises:
        ValueError: it is neither the name of a shipped file nor an existing path.
    """
    if name_or_path in shipped:
        return shipped[name_or_path]
    if Path(name_or_path).exists():  # what is no regular file is refused where it is read
        return Path(name_or_path)
    names = sorted(shipped, key=lambda name: (len(name), name))
    raise ValueError(
        f"no token {name_or_path!r}: no such file, and the tokens shipped for {backbone_name} are "
        f"{', '.join(names) or 'none'}; train one with `countgen learn-token`"
    )
