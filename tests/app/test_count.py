"""`countgen count` counts in photographs and in images of countgen, and says what it could not read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from countgen.app.cli import main
from countgen.images import read_recipe
from tests.app.conftest import ASSETS, BUS, Answer, ErrorOf, Images, changed

pytestmark = pytest.mark.core


def pixels(path: str | Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


def test_persons_and_buses_on_photographs(tmp_path: Path, answer: Answer) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    out = tmp_path / "boxes"
    code, counted = answer("count", ASSETS, tmp_path / "broken.jpg", "people,bus", "--boxes", out)
    assert code == 1
    assert {Path(one["image"]).stem: one.get("counts") for one in counted["images"]} == {
        "bus": {"people": 4, "bus": 1},
        "zidane": {"people": 2, "bus": 0},
        "broken": None,
    }
    assert (counted["total"], counted["unread"]) == ({"people": 6, "bus": 1}, 1)
    assert "broken.jpg is not an image" in counted["images"][2]["error"]
    assert len(counted["images"][0]["detections"]["people"]) == 4
    photo, drawn = pixels(BUS), pixels(out / "bus-boxes.png")
    assert drawn.shape == photo.shape
    assert (drawn != photo).any(axis=2).mean() > 0.005


def test_an_image_of_countgen_is_counted_as_its_recipe_says(
    images: Images, tmp_path: Path, answer: Answer, error_of: ErrorOf
) -> None:
    recipe = read_recipe(images["searched"])
    for words in ([images["searched"]], [images["searched"], "cats"]):
        code, counted = answer("count", *words)
        assert (code, counted["critic"]) == (0, recipe["judge"])
        assert list(counted["images"][0]["counts"].values()) == recipe["judge_counts"]
    assert answer("count", images["searched"], images["refined"])[1]["total"].keys() == {"cat"}
    for judge in ("yolo:/etc/best.pt", "\x1b[2J"):
        assert "--critic" in error_of("count", changed(images["searched"], tmp_path, judge=judge))
    assert answer("count", tmp_path / "changed.png", "cat", "--critic", "miniature-yolo")[0] == 0
    for words in ([changed(images["searched"], tmp_path, judge=None)], [images["searched"], BUS]):
        assert answer("count", *words, "cat")[1]["critic"].startswith("nanodet")


def test_objects_of_several_words_a_table_and_a_detector_without_boxes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: Answer
) -> None:
    counts = answer("count", BUS, "person", "bus", "traffic light")[1]["images"][0]["counts"]
    assert counts == {"person": 4, "bus": 1, "traffic light": 0}
    assert main(["count", BUS, "person", "--csv", "--boxes", str(tmp_path / "a.png")]) == 0
    assert capsys.readouterr().out == f"image,object,count\n{BUS},person,4\n"
    assert pixels(tmp_path / "a.png").shape == pixels(BUS).shape
    assert "detections" not in answer("count", BUS, "apple", "--critic", "miniature-density")[1]["images"][0]
