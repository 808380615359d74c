"""Every format is read by the tool that it is for."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from PIL import Image

from countgen.datasets.sampler import Attempt
from countgen.files.json_lines import read_lines
from countgen.images import read_recipe

BOXES = {"apple": 3 * 4 + 2, "cat": 2}
"""Boxes of each class in both splits."""


def samples(folder: Path) -> list[Attempt]:
    return [attempt for attempt in read_lines(folder / "records.jsonl", Attempt) if not attempt.reason]


def test_coco_is_read_by_pycocotools(finished: Path) -> None:
    from pycocotools.coco import COCO

    images, annotations = list[int](), list[int]()
    counted = dict.fromkeys(BOXES, 0)
    for split in ("train", "val"):
        with redirect_stdout(io.StringIO()):
            coco = COCO(finished / "annotations" / f"instances_{split}.json")
        assert coco.getCatIds() == [1, 2]
        images += coco.getImgIds()
        annotations += coco.getAnnIds()
        for image in coco.loadImgs(coco.getImgIds()):
            with Image.open(finished / "images" / split / image["file_name"]) as opened:
                assert opened.size == (image["width"], image["height"])
        for annotation in coco.loadAnns(coco.getAnnIds()):
            x, y, width, height = annotation["bbox"]
            assert 0 <= x < x + width <= 128
            assert 0 <= y < y + height <= 128
            assert annotation["area"] == pytest.approx(width * height, abs=0.01)
            counted[coco.cats[annotation["category_id"]]["name"]] += 1
    assert sorted(images) == list(range(1, 11))
    assert sorted(annotations) == list(range(1, 17))
    assert counted == BOXES


def test_negatives_are_images_without_annotations(finished: Path) -> None:
    negatives = [sample for sample in samples(finished) if sample.cell == 5]
    assert len(negatives) == 2
    for sample in negatives:
        assert (finished / sample.image).exists()
        assert (finished / sample.image.replace("images", "labels").replace(".png", ".txt")).read_text() == ""


def test_yolo_is_read_by_ultralytics_with_the_boxes_of_coco(finished: Path) -> None:
    from ultralytics.data.utils import check_det_dataset, verify_image_label

    data = check_det_dataset(str(finished / "data.yaml"), autodownload=False)
    assert data["names"] == {0: "apple", 1: "cat"}
    coco = json.loads((finished / "annotations" / "instances_train.json").read_text())
    read = []
    for image in sorted(Path(data["train"]).glob("*.png")):
        label = str(image).replace("/images/", "/labels/").replace(".png", ".txt")
        verified = verify_image_label((str(image), label, "", False, 2, 0, 0, False))
        assert verified[0] is not None
        assert verified[-1] == ""
        read += [(int(row[0]) + 1, row[3] * 128, row[4] * 128) for row in verified[1].tolist()]
    expected = [(a["category_id"], *a["bbox"][2:]) for a in coco["annotations"]]
    assert [row[0] for row in read] == [row[0] for row in expected]
    for row, wanted in zip(read, expected, strict=True):
        assert row[1:] == pytest.approx(wanted[1:], abs=0.01)


def test_the_folder_is_a_hugging_face_data_set(finished: Path, tmp_path: Path) -> None:
    import datasets

    loaded = datasets.load_dataset(str(finished), cache_dir=str(tmp_path))
    assert {name: len(split) for name, split in loaded.items()} == {"train": 5, "val": 5}
    rows = [row for split in loaded.values() for row in split]
    assert sum(len(row["objects"]["bbox"]) for row in rows) == 16
    assert all(row["image"].size == (128, 128) for row in rows)
    assert {row["prompt"] for row in rows} >= {"a photo of three apples", "one cat and one apple on a table"}


def test_supervision_reads_both(finished: Path) -> None:
    supervision = pytest.importorskip("supervision")
    folder = finished / "images" / "train"
    coco = supervision.DetectionDataset.from_coco(str(folder), str(finished / "annotations" / "instances_train.json"))
    yolo = supervision.DetectionDataset.from_yolo(
        str(folder), str(finished / "labels" / "train"), str(finished / "data.yaml")
    )
    for loaded in (coco, yolo):
        assert len(loaded) == 5
        assert loaded.classes == ["apple", "cat"]
    boxes = [sum(len(annotation) for _, _, annotation in loaded) for loaded in (coco, yolo)]
    assert boxes[0] == boxes[1] > 0


def test_images_hold_the_recipe_that_makes_them_again(finished: Path) -> None:
    sample = samples(finished)[0]
    recipe = read_recipe(finished / sample.image)
    assert (recipe["prompt"], recipe["seed"], recipe["deterministic"]) == ("a photo of one apple", sample.seed, True)
