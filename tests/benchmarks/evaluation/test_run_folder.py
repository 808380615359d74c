import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs
from PIL import Image

from countgen.benchmarks.evaluation.plan import RunSettings
from countgen.benchmarks.evaluation.records import PACKED, RunFolderError, read_run
from countgen.benchmarks.evaluation.run_folder import RunFolder
from countgen.benchmarks.evaluation.worker import Outcome
from countgen.images import read_recipe
from tests.benchmarks.evaluation.test_records import DONE
from tests.faults.crash_consistency import settings

PICTURE = Image.effect_noise((64, 64), 80).convert("RGB")


@pytest.fixture(scope="module")
def asked() -> RunSettings:
    return settings(4)


def outcome(number: int) -> Outcome:
    key = f"{number:032x}"
    record = structs.replace(DONE, key=key, image=f"images/{key}.png", before=f"images/{key}-before.png")
    return Outcome(record, PICTURE, PICTURE.copy(), {"seed": number}, os.getpid())


def test_pictures_lie_where_their_record_says(tmp_path: Path, asked: RunSettings) -> None:
    with RunFolder(tmp_path / "a" / "b", asked) as folder:
        folder.keep(outcome(1))
    found, (record,) = read_run(tmp_path / "a" / "b")
    assert found["suite"] == asked.suite
    assert read_recipe(tmp_path / "a" / "b" / str(record.image)) == {"seed": 1}
    assert (tmp_path / "a" / "b" / str(record.before)).is_file()


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path, asked: RunSettings) -> None:
    with (
        RunFolder(tmp_path, asked),
        pytest.raises(RunFolderError, match="in use by another run"),
        RunFolder(tmp_path, asked),
    ):
        pass
    with RunFolder(tmp_path, asked):
        pass


def test_the_lock_of_a_killed_run_is_no_obstacle(tmp_path: Path, asked: RunSettings) -> None:
    with RunFolder(tmp_path, asked):
        pass
    script = (
        "import fcntl, os, signal, sys\n"
        "file = open(sys.argv[1], 'a')\n"
        "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "lock"], check=False)
    assert done.returncode == -9
    with RunFolder(tmp_path, asked):
        pass


def test_settings_are_fixed_by_the_first_record_and_a_suite_is_known_by_its_content(
    tmp_path: Path, asked: RunSettings
) -> None:
    with RunFolder(tmp_path, replace(asked, max_evaluations=7)):
        pass
    asked = replace(asked, suite="prompts/mine.csv")
    with RunFolder(tmp_path, asked) as folder:  # there is no result yet
        folder.keep(outcome(1))
    before = {path: path.read_bytes() for path in tmp_path.glob("*") if path.is_file() and path.name != "lock"}
    changed = replace(asked, max_evaluations=7, methods=("plain", "auto"), suite="/home/anna/prompts/mine.csv")
    with pytest.raises(RunFolderError) as error, RunFolder(tmp_path, changed):
        pass
    assert "methods (there ['plain'], now ['plain', 'auto'])" in str(error.value)
    assert "max_evaluations (there 1, now 7)" in str(error.value)
    assert "suite" not in str(error.value)
    with (
        pytest.raises(RunFolderError, match=r"suite \(there 'prompts/mine.csv', now 'other.csv'\)"),
        RunFolder(tmp_path, replace(asked, suite="other.csv")),
    ):
        pass
    assert all(path.read_bytes() == content for path, content in before.items())


def test_records_without_settings_are_refused(tmp_path: Path, asked: RunSettings) -> None:
    with RunFolder(tmp_path, asked) as folder:
        folder.keep(outcome(1))
    for damage in ("", "[1]", "7"):
        (tmp_path / "settings.json").write_text(damage)
        with pytest.raises(RunFolderError, match="readable settings"), RunFolder(tmp_path, asked):
            pass
        with pytest.raises(RunFolderError, match="damaged"):
            read_run(tmp_path)
    (tmp_path / "settings.json").unlink()
    with pytest.raises(RunFolderError, match="readable settings"), RunFolder(tmp_path, asked):
        pass


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path, asked: RunSettings) -> None:
    (tmp_path / PACKED).touch()
    with pytest.raises(RunFolderError, match="give another folder"), RunFolder(tmp_path, asked):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write to the folder"), RunFolder(tmp_path / "file", asked):
        pass
