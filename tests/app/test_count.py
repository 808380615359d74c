"""`countgen count` counts in photographs and says what it could not read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ultralytics
from PIL import Image

from countgen.app.cli import main

ASSETS = Path(ultralytics.__file__).parent / "assets"
BUS = str(ASSETS / "bus.jpg")


def pixels(path: str | Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


def test_persons_and_buses_on_photographs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    out = tmp_path / "boxes"
    assert main(["count", str(ASSETS), str(tmp_path / "broken.jpg"), "people,bus", "--boxes", str(out), "--json"]) == 1
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert {Path(one["image"]).stem: one.get("counts") for one in answer["images"]} == {
        "bus": {"people": 4, "bus": 1},
        "zidane": {"people": 2, "bus": 0},
        "broken": None,
    }
    assert (answer["total"], answer["unread"]) == ({"people": 6, "bus": 1}, 1)
    assert "broken.jpg is not an image" in said.err
    assert len(answer["images"][0]["detections"]["people"]) == 4
    photo, drawn = pixels(BUS), pixels(out / "bus-boxes.png")
    assert drawn.shape == photo.shape
    assert (drawn != photo).any(axis=2).mean() > 0.005


def test_objects_may_be_several_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["count", BUS, "person", "bus", "traffic light", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["images"][0]["counts"] == {"person": 4, "bus": 1, "traffic light": 0}
    for words in ([BUS, "none.jpg", "person"], [BUS, "some/where", "person"], ["person", BUS, "bus"]):
        assert main(["count", *words]) == 2
        assert "no such file or folder" in capsys.readouterr().err


def test_the_embedded_detector_imports_no_library_of_pipelines() -> None:
    heavy = {"diffusers", "transformers", "ultralytics"}
    code = (
        f"import sys; from countgen.app.cli import main; main(['count', {BUS!r}, 'person'])\n"
        f"print({heavy} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_table_and_one_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["count", BUS, "person", "--csv", "--boxes", str(tmp_path / "a.png")]) == 0
    assert capsys.readouterr().out == f"image,object,count\n{BUS},person,4\n"
    assert pixels(tmp_path / "a.png").shape == pixels(BUS).shape
    assert main(["count", BUS, "apple", "--critic", "miniature-density", "--json"]) == 0
    assert "detections" not in json.loads(capsys.readouterr().out)["images"][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.jpg", "person"], "no such file or folder: none.jpg"),
        ([".", "person"], "has no image"),
        ([BUS, ","], "names no object"),
        ([BUS, "person", "--boxes", "a.jpg"], "must end in .png"),
        ([BUS, BUS, str(ASSETS), "person", "--boxes", "a.png"], "must be a folder for several images"),
        ([str(ASSETS), "person", "--boxes", BUS], "it is a file; give another one"),
        ([BUS, "person,people"], "are one class of nanodet"),
        ([BUS, "unicorn"], "HF_HUB_OFFLINE is set and files are missing: owl:owlv2-base (620 MB)"),
        ([BUS, "unicorn", "--critic", "nanodet"], "has no class for 'unicorn'"),
        ([BUS, "apple", "--critic", "miniature-density", "--boxes", "a.png"], "counts without boxes"),
        ([BUS, "person", "--critic", "magic"], "unknown detector 'magic'"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["count", *arguments]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1
