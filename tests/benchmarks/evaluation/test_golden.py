"""The golden set: labels of generated images, and judges scored on them."""

import json
from pathlib import Path

import pytest

from countgen import critics, miniature
from countgen.app.cli import main
from countgen.benchmarks.evaluation import golden
from countgen.benchmarks.evaluation.golden import GoldenImage
from countgen.benchmarks.evaluation.labels import questions, read_labels


def image(key: str, counts: tuple[int | None, ...], critics: tuple[str, ...] = ()) -> GoldenImage:
    return GoldenImage(key, Path(key), ("apple", "dog")[: len(counts)], counts, critics)


def test_every_image_of_the_set_is_there_and_labelled_and_a_third_of_them_twice() -> None:
    images = {image.key for image in golden.golden_images() if image.path.is_file()}
    again = {label.key for label in read_labels(golden.FOLDER) if label.labeller == "reader, second pass"}
    assert images == {question.key for question in questions(golden.FOLDER)}
    assert len(images) >= 300
    assert again < images
    assert len(again) >= 100


def test_rows_count_what_a_judge_gives_against_what_the_reader_counted() -> None:
    images = [image("a", (3,)), image("b", (3,), ("x",)), image("c", (14, 0)), image("d", (None,)), image("e", (2,))]
    found = {"a": (3,), "b": (5,), "c": (13, 0), "d": (4,)}
    mine = {row.label: row for row in golden.rows(images, found)}
    assert list(mine) == ["0", "3", "13+", "plain", "steered", "two classes", "all"]
    assert (mine["3"].cases, mine["3"].exact, mine["3"].bias) == (2, 1, 1.0)
    assert (mine["13+"].exact, mine["13+"].bias) == (0, -1.0)
    assert (mine["plain"].cases, mine["steered"].cases, mine["all"].cases) == (3, 1, 4)
    assert mine["all"].exact == 2
    assert mine["all"].interval == pytest.approx((0.150, 0.850), abs=1e-3)


def test_a_judge_counts_the_images_whose_classes_it_knows() -> None:
    images = golden.golden_images()
    assert golden.known_images(miniature.load_detector("miniature-fcos"), images) == images
    coco = critics.load("nanodet")
    known = golden.known_images(coco, images)
    assert 0 < len(known) < len(images)
    assert not any("strawberry" in one.object_names for one in known)
    with pytest.raises(ValueError, match="knows none of the set's classes"):
        golden.known_images(coco, [one for one in images if "strawberry" in one.object_names])


def test_doctor_scores_judges(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    few = golden.golden_images()[:6]
    monkeypatch.setattr(golden, "golden_images", lambda: few)
    names = ["miniature-yolo", "miniature-fcos", "miniature-density"]
    judges = [word for name in names for word in ("--judge", name)]
    assert main(["doctor", *judges, "--device", "cpu"]) == 0
    text = " ".join(capsys.readouterr().out.split())  # wherever lines are folded
    assert all(f"{name}: 6 of 6 images of the golden set" in text for name in [*names, "majority"])
    assert "miniature-yolo steered" in text
    assert main(["doctor", *judges, "--json", "--device", "cpu"]) == 0
    assert set(json.loads(capsys.readouterr().out)["judges"]) == {*names, "majority"}
