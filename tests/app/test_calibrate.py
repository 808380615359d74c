"""`countgen calibrate` measures a number axis, loses no point, and goes on where it stopped."""

import json
from pathlib import Path

import pytest

from countgen.app.cli import main
from countgen.images import read_recipe
from countgen.number_slider import load_calibration
from countgen.number_slider import measurement as measurements

OPTIONS = ["--images", "2", "--max-number", "3", "--object", "cat", "--object", "dog", "--json"]


def exit_code(arguments: list[str]) -> int:
    """The exit code, whether the parser or the command refused."""
    try:
        return main(arguments)
    except SystemExit as error:
        return int(error.code or 0)


def calibrated(out: Path, *more: str) -> int:
    return main(["calibrate", "--out", str(out), *OPTIONS, *more])


@pytest.mark.slow
def test_an_interrupted_calibration_keeps_its_points_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, whole = tmp_path / "a.json", tmp_path / "whole.json"
    assert calibrated(whole) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["complete"]
    assert summary["calibration"] == str(whole)
    assert 2 <= summary["hi"] <= 3
    assert summary["lo"] == 1

    count, asked = measurements._counts, []

    def interrupted(*given: object) -> object:
        asked.append(given)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return count(*given)

    monkeypatch.setattr(measurements, "_counts", interrupted)
    assert calibrated(out) == 130
    assert json.loads(capsys.readouterr().out) == {
        "calibration": str(out),
        "points": 2,
        "complete": False,
        "interrupted": True,
    }
    assert len(load_calibration(out).points) == 2
    assert calibrated(out) == 0
    assert out.read_text() == whole.read_text()
    done = len(asked)
    assert calibrated(out) == 0
    assert len(asked) == done, "what is complete is not measured again"

    capsys.readouterr()
    for other in (["--images", "3"], ["--dtype", "bfloat16"], ["--scheduler", "DDIMScheduler"], ["--size", "64"]):
        assert calibrated(out, *other) == 2
        assert "with other settings" in capsys.readouterr().err
    assert load_calibration(out) == load_calibration(whole)

    pictures = ["--method", "plain", "--out", str(tmp_path), "--json"]
    offset = ["--number-offset", "cats=1", "--calibration", str(out)]
    main(["generate", "two cats and one dog", *pictures, *offset])
    (written,) = json.loads(capsys.readouterr().out)["images"]
    (shift,) = read_recipe(Path(written["after"]))["number_shifts"]
    assert (shift["object_name"], shift["number"], shift["offset"]) == ("cat", 2, 1.0)
    assert main(["reproduce", written["after"]]) == 0
    assert main(["generate", "two cats", *pictures, "--number-offset", "99", "--calibration", str(out)]) == 2
    assert "must be from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--max-number", "1"], "max_number must be a whole number, at least 2 and at most 1000, got 1"),
        (["--max-number", "2000"], "at most 1000, got 2000"),
        (["--object", ""], "needs the name of an object"),
        (["--object", "unicorn"], "unicorn"),
        (["--out", "a.txt"], ".json"),
        (["--images", "0"], "images must be"),
        (["--model", "minature"], "did you mean miniature"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_code(["calibrate", *arguments]) == 2
    errors = capsys.readouterr().err
    assert reason in errors
    assert len([line for line in errors.splitlines() if "error" in line]) == 1


def test_impossible_points_are_refused_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def loading(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("countgen.load", loading)
    for arguments in (["--max-number", "1"], ["--max-number", "2000"], ["--object", ""]):
        assert main(["calibrate", *arguments]) == 2


def test_a_file_that_is_no_calibration_is_refused_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.json"
    out.write_text("{}")
    assert calibrated(out) == 2
    assert "holds no calibration" in capsys.readouterr().err
    assert out.read_text() == "{}"
