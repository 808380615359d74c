"""Bad input to `countgen eval`, `report` and `label` is an error with the word that helps, and writes nothing."""

import os
import shlex
from pathlib import Path

import pytest

from countgen import miniature
from countgen.app.cli import main
from countgen.number_slider.calibration import FOLDER as CALIBRATIONS
from tests.benchmarks.evaluation.made_records import write_run

FILES = {
    "no-image.csv": "prompt\nthree apples\n",
    "gone.csv": "prompt,image\nthree apples,pictures/9.png\n",
    "early.csv": "prompt,image,seconds\nthree apples,0.png,-1\n",
    "counts/columns.csv": "image,number\na.png,3\n",
    "counts/elsewhere.csv": "image,object,count\nelsewhere.png,dog,3\n",
    "counts/nobody.csv": "image,object,count,labeller\n0.png,apple,3,ann\n1.png,apple,3,\n",
    "counts/empty.csv": "",
}
SUITE = "eval --suite d2d-small-miniature --limit 1 --methods plain --device cpu --out new"
ERRORS = [
    ("report nowhere", "is not a run"),
    ("report made --baseline magic", "no method 'magic'"),
    ("report empty", "no records yet"),
    ("report made --out table.tex", "--out takes FILE.html or a FOLDER, got table.tex; --tables prints csv, latex"),
    ("report made judged", "share no case"),
    ("report made --export geneval", "--out PATH"),
    ("report made --export geneval --out new", "several methods; give --method, one of plain, auto"),
    ("report made --export geneval --out new --method noise", "the run has no method 'noise'"),
    ("report made --export geneval --out made --method plain", "is not empty; give a new folder"),
    ("label made --out new.csv", "--labeller NAME"),
    ("label empty --out new.csv --labeller a", "has no image to count"),
    ("label made --out new.csv --labeller a --read new.csv", "one of --out, --read and --import"),
    ("label judged --labeller a --import counts/columns.csv", "the columns image, object, count; or image_id"),
    ("label judged --labeller a --import counts/elsewhere.csv", "no count for an image and an object of"),
    ("label judged --import counts/nobody.csv", "nobody.csv, line 3: give --labeller NAME, or fill in the column"),
    ("label judged --labeller a --import counts/empty.csv", "got none"),
    ("eval --judge miniature-yolo", "give --suite and --out"),
    ("eval --images no-image.csv --out new", "is not an image"),
    ("eval --images gone.csv --out new", "pictures/9.png' is not an image"),
    ("eval --images early.csv --out new", "prompt 1: '-1' is not a number of seconds"),
    ("eval --images made --out new", "does not hold counting prompts in GenEval's layout"),
    ("eval --images mine.csv --out new --threads 0", "threads"),
    ("eval --images mine.csv --out new --shard 3/2", "'3/2' is not a shard"),
    ("eval --rejudge judged", "name at least one judge"),
    ("eval --rejudge judged --judge miniature-fcos", "miniature-fcos judged"),
    ("eval --rejudge judged --judge yolo:nowhere.pt", "nowhere.pt"),
    ("eval --rejudge judged --judge miniature-yolo --suite d2d-small-style", "leave --suite and --out away"),
    ("eval --rejudge judged --judge miniature-yolo --batch-size 0", "--batch-size"),
    ("eval --rejudge elsewhere --judge miniature-yolo", "elsewhere is not a run"),
    (f"{SUITE} --set noise.learning_rate=0.1", "the run has no method 'noise'; it has plain"),
    (f"{SUITE} --calibration {miniature.FOLDER / 'SHA256SUMS'}", "holds no calibration"),
    (f"{SUITE} --lora nowhere.safetensors", "no LoRA 'nowhere.safetensors'"),
]
AFTER_LOADING = [
    (f"{SUITE} --negative-prompt dogs", "a negative prompt needs guidance"),
    (f"{SUITE} --calibration {CALIBRATIONS / 'miniature-pixart.json'}", "the calibration is of miniature-pixart"),
    (f"{SUITE} --scheduler EulerSchedule", "unknown scheduler 'EulerSchedule'"),
    ("eval --suite odd.txt --methods plain --judge nanodet --device cpu --out new", "has no class for 'butterfly'"),
    ("eval --images odd.csv --judge nanodet --out new", "has no class for 'butterfly'"),
]
"""What only the loaded models know: the new folder holds no image."""


@pytest.fixture(scope="module")
def folder(made_run: Path, judged_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs by short names, and the files that the commands name."""
    folder = tmp_path_factory.mktemp("bad-input")
    (folder / "made").symlink_to(made_run)
    (folder / "judged").symlink_to(judged_run)
    for given in judged_run.parent.glob("*.*"):
        (folder / given.name).symlink_to(given)
    write_run(folder / "empty", [])
    (folder / "counts").mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "odd.txt").write_text("two apples\nthree butterflies\n")
    (folder / "odd.csv").write_text("prompt,image\ntwo apples,0.png\nthree butterflies,1.png\n")
    return folder


def files_of(folder: Path) -> dict[str, int]:
    """Return the times of all files, those behind links included."""
    walked = os.walk(folder, followlinks=True)
    return {path: os.stat(path).st_mtime_ns for root, _, names in walked for path in (f"{root}/{n}" for n in names)}


@pytest.mark.parametrize(("command", "helps"), ERRORS, ids=[command for command, _ in ERRORS])
def test_bad_input_is_an_error_that_helps_and_writes_nothing(
    command: str, helps: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    before = files_of(folder)
    assert main(shlex.split(command)) == 2
    output = capsys.readouterr()
    assert helps in " ".join(output.err.split())
    assert files_of(folder) == before


@pytest.mark.parametrize(("command", "helps"), AFTER_LOADING)
def test_what_the_models_cannot_do_ends_a_run_before_its_first_image(
    command: str,
    helps: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    assert main(shlex.split(command.replace("--out new", f"--out {tmp_path / 'run'}"))) == 2
    assert helps in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == b""
