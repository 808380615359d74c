import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from countgen.miniature import checksums

pytestmark = pytest.mark.core

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_embedded_data_is_what_the_checksums_say() -> None:
    assert checksums.problems() == [], "trained anew? write SHA256SUMS as countgen/miniature/checksums.py says"


def test_every_data_file_has_a_checksum_and_travels_with_the_package() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["countgen.miniature"]
    packed = {path for pattern in patterns for path in checksums.FOLDER.glob(pattern)}
    there = {path for path in checksums.FOLDER.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert there <= packed
    assert {path.relative_to(checksums.FOLDER).as_posix() for path in there} == {*checksums.recorded(), "SHA256SUMS"}


def test_damage_to_the_data_is_found(tmp_path: Path) -> None:
    assert checksums.problems(tmp_path) == ["SHA256SUMS is missing"]
    shutil.copytree(checksums.FOLDER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "mini-sdxl-turbo" / "model_index.json").unlink()
    (tmp_path / "README.md").write_text("damaged")
    assert checksums.problems(tmp_path) == [
        "README.md is damaged or changed",
        "mini-sdxl-turbo/model_index.json is missing",
    ]


def test_importing_the_package_loads_nothing_heavy_and_dir_lists_its_public_names() -> None:
    script = """
import sys, countgen
print([name for name in ("torch", "diffusers", "ultralytics") if name in sys.modules])
from countgen import critics
print([{*module.__all__} - {*dir(module)} for module in (countgen, critics)])
assert all(hasattr(countgen, name) for name in countgen.__all__)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["[]", "[set(), set()]"]
