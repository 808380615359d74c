import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from countgen.app.cli import main
from countgen.benchmarks.evaluation.plan import RunSettings
from countgen.benchmarks.evaluation.records import read_records
from countgen.benchmarks.evaluation.run_folder import RunFolder
from tests.benchmarks.evaluation.test_run_folder import outcome
from tests.faults.crash_consistency import file_size_limit, settings


@pytest.fixture(scope="module")
def asked() -> RunSettings:
    return settings(4)


def test_a_disk_that_fills_up_under_a_picture_costs_that_picture_only(tmp_path: Path, asked: RunSettings) -> None:
    with RunFolder(tmp_path, asked) as folder:
        folder.keep(outcome(1))
        earlier = (tmp_path / "records.jsonl").read_bytes()
        with file_size_limit(4000), pytest.raises(OSError, match=r"cannot write .*\.png"):
            folder.keep(outcome(2))
    assert (tmp_path / "records.jsonl").read_bytes() == earlier
    assert len(os.listdir(tmp_path / "images")) == 2


def test_generate_leaves_both_pictures_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", "two cats", "--method", "plain", "--out"]
    main([*arguments, str(tmp_path / "whole")])
    before, after = ((tmp_path / "whole" / f"two-cats-0-{when}.png").stat().st_size for when in ("before", "after"))
    assert before < after  # its recipe says more, so that there is room for the first alone
    with file_size_limit(before):
        assert main([*arguments, str(tmp_path / "full")]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert os.listdir(tmp_path / "full") == []


def test_generate_on_a_full_file_system_leaves_both_pictures_or_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["generate", "two cats", "--method", "plain", "--out"]
    main([*arguments, str(tmp_path / "whole")])
    pages = -(-max(path.stat().st_size for path in (tmp_path / "whole").iterdir()) // 4096)
    for size in (pages - 1, pages + 1, 2 * pages - 1, 2 * pages + 4):
        with mounted(tmp_path / f"small-{size}", f"size={4 * size}k") as small:
            code = main([*arguments, str(small)])
            assert len(os.listdir(small)) == (2 if code < 2 else 0)
            assert (code < 2) == (size > 2 * pages)
            assert ("No space left" in capsys.readouterr().err) == (code == 2)


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


def test_a_full_file_system_loses_nothing_that_is_finished(tmp_path: Path, asked: RunSettings) -> None:
    with mounted(tmp_path / "small", "size=96k") as small:
        kept: list[int] = []

        def fill() -> None:
            with RunFolder(small, asked) as folder:
                for number in range(100):
                    folder.keep(outcome(number))
                    kept.append(number)

        with pytest.raises(OSError, match="No space left"):
            fill()
        records = read_records(small / "records.jsonl")
        assert len(records) == len(kept) > 0
        assert all((small / str(record.image)).is_file() for record in records)


def test_a_read_only_file_system_is_a_clear_error(tmp_path: Path, asked: RunSettings) -> None:
    with (
        mounted(tmp_path / "fixed", "ro,size=64k") as fixed,
        pytest.raises(OSError, match=r"cannot write to the folder .*Read-only"),
        RunFolder(fixed / "run", asked),
    ):
        pass
