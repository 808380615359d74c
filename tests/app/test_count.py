"""`countgen count` counts in photographs and in images of countgen, and says what it could not read."""

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from countgen.app import count
from countgen.app.cli import main
from countgen.app.expectation import expectation
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


def test_images_that_match_are_listed_copied_and_the_exit_code_says_whether_all_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: Answer
) -> None:
    (tmp_path / "bus.jpg").write_bytes(Path(BUS).read_bytes())
    copies = tmp_path / "copies"
    for copy in ("bus.jpg", "bus-2.jpg"):
        code, counted = answer("count", ASSETS, "--expect", "people>=3, bus=1", "--copy", copies)
        assert (code, counted["total"], counted["matching"]) == (1, {"person": 6, "bus": 1}, 1)
        assert {Path(one["image"]).stem: one["matches"] for one in counted["images"]} == {"bus": True, "zidane": False}
        assert (copies / copy).read_bytes() == Path(BUS).read_bytes()
        assert (copies / copy).stat().st_mtime == Path(BUS).stat().st_mtime
    assert main(["count", str(ASSETS), "--expect", "bus=1", "--list"]) == 1
    assert capsys.readouterr().out == f"{BUS}\n"
    assert main(["count", BUS, "--expect", "bus=1,person!=3", "--csv"]) == 0
    assert capsys.readouterr().out == f"image,object,count,matches\n{BUS},bus,1,true\n{BUS},person,4,true\n"
    assert main(["count", str(ASSETS), "--expect", "person>2"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line[:2] for line in lines[:2]] == ["+ ", "- "]
    assert lines[2].startswith("1 of 2 images match person>2; together: 6 people in 2 images")


def test_an_image_is_forgotten_as_soon_as_it_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    for index in range(12):
        Image.new("RGB", (256, 256)).save(tmp_path / f"{index}.png")
    counting, alive = count._counted, []

    class Record(dict[str, Any]):
        """A record that can be referred to weakly."""

    def counted(*options: Any) -> Record:
        record = Record(counting(*options))
        alive.append(weakref.ref(record))
        assert sum(reference() is not None for reference in alive) <= 3
        return record

    monkeypatch.setattr(count, "_counted", counted)
    assert answer("count", tmp_path, "--expect", "bus=0")[1]["matching"] == len(alive) == 12


@pytest.mark.parametrize("text", ["", "bus", "bus=", "=1", "bus=-1", "bus~1", "bus=1,,cat=2", "bus=1=2"])
def test_conditions_that_cannot_be_read_are_errors(text: str, error_of: ErrorOf) -> None:
    assert "write NAME<=N" in error_of("count", BUS, "--expect", text)


def test_conditions_that_nothing_uses_and_two_formats_are_errors(error_of: ErrorOf) -> None:
    assert "--expect" in error_of("count", BUS, "bus", "--list")
    assert "one of" in error_of("count", BUS, "--expect", "bus=1", "--list", "--csv")
    assert "no such file" in error_of("count", BUS, "bus", "--expect", "bus=1")


@pytest.mark.parametrize(
    ("sign", "right"), [("=", "2"), ("!=", "13"), ("<", "1"), (">", "3"), ("<=", "12"), (">=", "23")]
)
def test_comparisons_are_those_of_arithmetic(sign: str, right: str) -> None:
    assert "".join(str(n) for n in (1, 2, 3) if expectation(f"cats {sign} 2").holds({"cat": n})) == right
