import os
from pathlib import Path

import pytest

from countgen.files.folder import open_writable, output_path, readable_path, writable_path

pytestmark = pytest.mark.core


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder in which every kind of entry leads outside it, or blocks."""
    folder, outside = tmp_path / "run", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "file").write_text("mine")
    (folder / "link").symlink_to(outside / "file")
    (folder / "dangling").symlink_to(outside / "new")
    (folder / "twin").hardlink_to(outside / "file")
    (folder / "images").symlink_to(outside)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "file").write_text("own")
    return folder


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("link", "a link"),
        ("dangling", "a link"),
        ("twin", "several hard links"),
        ("images/file", "a link"),
        ("images/new", "a link"),
        ("folder", "a folder"),
        ("pipe", "a pipe"),
        ("file/new", "not a folder"),
        ("../outside/file", "outside the folder"),
        ("/etc/passwd", "outside the folder"),
        ("", "outside the folder"),
    ],
)
def test_nothing_that_leads_elsewhere_is_written(name: str, reason: str, run: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        open_writable(run, name)
    if reason != "outside the folder":
        with pytest.raises(ValueError, match=reason):
            output_path(run / name, [run])
    assert sorted(os.listdir(run.parent / "outside")) == ["file"]
    assert (run.parent / "outside" / "file").read_text() == "mine"


def test_own_and_new_files_are_written_in_a_folder_that_may_be_a_link(run: Path, tmp_path: Path) -> None:
    for name in ("file", "new", "folder/new"):
        with open_writable(run, name) as file:
            file.write(b"abc")
        assert writable_path(run, name).read_bytes() == b"abc"
    (tmp_path / "shortcut").symlink_to(run)
    open_writable(tmp_path / "shortcut", "file").close()
    assert output_path(run.parent / "report.html", [run]) == run.parent / "report.html"


def test_files_outside_are_not_read(run: Path) -> None:
    names = ("link", "twin/x", "images/file", "../outside/file", "folder", "pipe", "missing", "a\0b")
    assert [readable_path(run, name) for name in names] == [None] * len(names)
    assert readable_path(run, "file") == (run / "file").resolve()
