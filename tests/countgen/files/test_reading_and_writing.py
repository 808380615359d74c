import os
from pathlib import Path

import pytest

from countgen.files.reading import read_bytes
from countgen.files.writing import write_atomically

pytestmark = pytest.mark.core


def test_a_file_over_the_limit_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bytes(tmp_path / "a", 5) == b"12345"
    with pytest.raises(ValueError, match="larger than 4 bytes"):
        read_bytes(tmp_path / "a", 4)


def test_a_write_replaces_a_link_and_not_what_it_leads_to_and_no_file_unasked(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    for link in (Path.symlink_to, Path.hardlink_to):
        link(tmp_path / "a", tmp_path / "old")
        write_atomically(b"new", tmp_path / "a")
        assert (tmp_path / "old").read_bytes() == b"old"
        assert (tmp_path / "a").read_bytes() == b"new"
        with pytest.raises(FileExistsError):
            write_atomically(b"newer", tmp_path / "a", overwrite=False)
        (tmp_path / "a").unlink()
    assert os.listdir(tmp_path) == ["old"]


def test_the_content_is_on_the_disk_before_the_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    for name in ("fsync", "replace"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, call=call: (calls.append(name), call(*args)))
    write_atomically(b"new", tmp_path / "a")
    assert calls == ["fsync", "replace", "fsync"]  # of the content, and of the folder
