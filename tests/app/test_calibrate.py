"""`countgen calibrate` measures a number axis, loses no point, goes on where it stopped, and fits P(right)."""

import json
from pathlib import Path

import pytest

from countgen.images import read_recipe
from countgen.number_slider import load_calibration
from countgen.number_slider import measurement as measurements
from tests.app.conftest import Answer, ErrorOf

DETECTORS = ["--critic", "miniature-heatmap", "--judge", "miniature-fcos"]
OPTIONS = ["--images", "2", "--max-number", "3", "--object", "cat", "--object", "dog", *DETECTORS]


def test_an_interrupted_calibration_keeps_its_points_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, error_of: ErrorOf
) -> None:
    out, whole = tmp_path / "a.json", tmp_path / "whole.json"
    code, summary = answer("calibrate", "--out", whole, *OPTIONS)
    assert (code, summary["complete"], summary["calibration"], summary["lo"]) == (0, True, str(whole), 1)
    assert 2 <= summary["hi"] <= 3

    count, calls = measurements._counts, []

    def interrupted(*given: object) -> object:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return count(*given)

    monkeypatch.setattr(measurements, "_counts", interrupted)
    begun = {"calibration": str(out), "points": 2, "complete": False, "interrupted": True}
    assert answer("calibrate", "--out", out, *OPTIONS) == (130, begun)
    assert len(load_calibration(out).points) == 2
    assert answer("calibrate", "--out", out, *OPTIONS)[0] == 0
    assert out.read_text() == whole.read_text()
    done, earlier = len(calls), json.loads(whole.read_text())
    del earlier["acceptance"]
    out.write_text(json.dumps(earlier))
    assert answer("calibrate", "--out", out, *OPTIONS)[1]["fitted"]["images"] == 6
    assert len(calls) == done, "what is complete is not measured again"
    assert out.read_text() == whole.read_text(), "a file of an earlier version gets the fit"
    other_judge = ["--judge", "miniature-density"]
    for other in (["--images", "3"], ["--dtype", "bfloat16"], ["--scheduler", "DDIMScheduler"], other_judge):
        assert "with other settings" in error_of("calibrate", "--out", out, *OPTIONS, *other)
    assert load_calibration(out) == load_calibration(whole)

    use = ["--method", "plain", "--out", tmp_path, *DETECTORS, "--calibration", out]
    made = answer("generate", "two cats and one dog", *use, "--number-offset", "cats=1")[1]["images"][0]
    (shift,) = read_recipe(made["after"])["number_shifts"]
    assert (shift["object_name"], shift["number"], shift["offset"]) == ("cat", 2, 1.0)
    few, shipped = (answer("generate", "one cat", *of)[1]["images"][0]["probability"] for of in (use, use[:-2]))
    assert few <= 7 / 8 < shipped, "six images do not allow more"
    assert answer("reproduce", made["after"])[0] == 0
    assert "must be from" in error_of("generate", "two cats", *use, "--number-offset", "99")
