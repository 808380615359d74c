"""A disk that is full or read-only costs what is being written, and nothing that is finished."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from countgen.app.cli import main
from countgen.benchmarks.evaluation.records import read_records
from countgen.benchmarks.evaluation.run_folder import RunFolder
from countgen.files.writing import write_atomically
from countgen.tokens.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tests.benchmarks.evaluation.test_run_folder import outcome
from tests.faults.crash_consistency import file_size_limit, settings


def test_the_earlier_file_stays_and_no_part_of_the_new_one(tmp_path: Path) -> None:
    write_atomically(b"old", tmp_path / "a")
    save_checkpoint(Checkpoint(vectors={"clip_l": torch.ones(1, 4)}), tmp_path / "b", "a run")
    with file_size_limit(1000):
        with pytest.raises(OSError, match="File too large"):
            write_atomically(bytes(2000), tmp_path / "a")
        with pytest.raises(OSError, match="File too large"):
            save_checkpoint(Checkpoint(vectors={"clip_l": torch.ones(1, 999)}, step=1), tmp_path / "b", "a run")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert load_checkpoint(tmp_path / "b", "a run").step == 0
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


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


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own, where this process may mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_file_system_loses_nothing_that_is_finished(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=96k") as small:
        kept: list[int] = []

        def fill() -> None:
            with RunFolder(small, settings(4)) as folder:
                for number in range(100):
                    folder.keep(outcome(number))
                    kept.append(number)

        with pytest.raises(OSError, match="No space left"):
            fill()
        records = read_records(small / "records.jsonl")
        assert len(records) == len(kept) > 0
        assert all((small / str(record.image)).is_file() for record in records)
