"""A full disk costs what is being written, and nothing that is finished."""

import os
from pathlib import Path

import pytest

from countgen.app.cli import main
from countgen.benchmarks.evaluation.run_folder import RunFolder
from countgen.files.writing import write_atomically
from tests.benchmarks.evaluation.test_run_folder import outcome
from tests.faults.crash_consistency import file_size_limit, settings


def test_the_earlier_file_stays_and_no_part_of_the_new_one(tmp_path: Path) -> None:
    write_atomically(b"old", tmp_path / "a")
    with file_size_limit(1000), pytest.raises(OSError, match="File too large"):
        write_atomically(bytes(2000), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_run_loses_only_the_image_that_is_written(tmp_path: Path) -> None:
    with RunFolder(tmp_path, settings(4)) as folder:
        folder.keep(outcome(1))
        earlier = (tmp_path / "records.jsonl").read_bytes()
        with file_size_limit(4000), pytest.raises(OSError, match=r"cannot write .*\.png"):
            folder.keep(outcome(2))
    assert (tmp_path / "records.jsonl").read_bytes() == earlier
    assert len(os.listdir(tmp_path / "images")) == 2


def test_generate_leaves_both_images_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", "two cats", "--method", "plain", "--out"]
    main([*arguments, str(tmp_path / "whole")])
    before, after = ((tmp_path / "whole" / f"two-cats-0-{when}.png").stat().st_size for when in ("before", "after"))
    assert before < after  # its recipe says more, so that there is room for the first alone
    with file_size_limit(before):
        assert main([*arguments, str(tmp_path / "full")]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert os.listdir(tmp_path / "full") == []
