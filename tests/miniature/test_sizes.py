"""The size of the repository and of the miniature is limited."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from countgen.miniature import FOLDER

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("folder", "most"), [(ROOT, 66_000_000), (FOLDER, 51_600_000)], ids=["repository", "miniature"]
)
def test_tracked_files_stay_within_their_size_limit(folder: Path, most: int) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing says which files are tracked")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=folder, check=True, capture_output=True, text=True).stdout
    files = [folder / name for name in listed.split("\0") if name]
    assert sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file()) < most
