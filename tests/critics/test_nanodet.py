"""NanoDet as a critic: right on real photographs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from torchvision.ops import box_iou

from countgen import critics, miniature
from countgen.critics.detectors import nanodet
from countgen.critics.vocabulary import COCO_CLASSES
from tests.critics.photographs import TRUTH, optimised, photograph, with_oranges


@pytest.fixture(scope="module")
def critic() -> nanodet.NanoDetCritic:
    return nanodet.load()


@pytest.mark.parametrize("name", TRUTH)
def test_the_objects_of_a_photograph_are_counted_right(name: str) -> None:
    critic = critics.load("nanodet")
    counts = critic.counts(photograph(name), COCO_CLASSES)[0]
    assert {COCO_CLASSES[at]: int(counts[at]) for at in counts.nonzero()[:, 0]} == TRUTH[name]


def test_boxes_lie_where_the_objects_are(critic: nanodet.NanoDetCritic) -> None:
    image = photograph("bus")
    people, buses = critic.candidates(image, ["people", "bus"])
    # Read off the photograph: left, top, right and bottom.
    expected = {(223, 405, 345, 860), (49, 398, 245, 903), (670, 392, 810, 877), (0, 550, 65, 870)}
    found = people.boxes[0, people.kept[0]][:4]
    overlaps = box_iou(torch.tensor(sorted(expected), dtype=torch.float32), found)
    assert (overlaps.amax(1) > 0.6).all(), overlaps
    assert box_iou(torch.tensor([[20.0, 230, 805, 740]]), buses.boxes[0, :1]) > 0.8
    assert float(people.boxes.amin()) >= 0
    assert float(people.boxes[..., 3].amax()) <= image.shape[2]
    assert float(people.boxes[..., 2].amax()) <= image.shape[3]


def test_its_classes_are_those_of_coco_in_their_order(critic: nanodet.NanoDetCritic) -> None:
    import importlib.util

    found = importlib.util.find_spec("ultralytics")
    assert found is not None
    assert found.origin is not None
    listed = yaml.safe_load((Path(found.origin).parent / "cfg/datasets/coco.yaml").read_text())["names"]
    assert critic.object_names == tuple(listed[index] for index in range(80))
    assert critic.column("women") == critic.column("person") == 0


def test_an_optimisation_of_the_pixels_moves_its_count_and_not_that_of_an_independent_detector() -> None:
    critic, judge = critics.load("nanodet"), miniature.load_detector("miniature-fcos")
    image = with_oranges(photograph("bus"))
    assert (critic.count(image, "orange"), judge.count(image, "orange")) == (3, 3)
    after = optimised(image, critic, {"orange": 5})
    assert float((after - image).abs().max()) <= 5 / 255  # 4, and the rounding to whole levels
    assert (critic.count(after, "orange"), judge.count(after, "orange")) == (5, 3)


def test_a_damaged_embedded_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "model.safetensors"
    content = bytearray(nanodet.EMBEDDED.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    monkeypatch.setattr(nanodet, "EMBEDDED", damaged)
    with pytest.raises(ValueError, match=r"is damaged: its SHA-256 is .* install the package again"):
        critics.load("nanodet")


@pytest.mark.parametrize("size", [31, 400])
def test_an_image_size_that_the_grids_do_not_divide_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"multiple of 32, got {size}"):
        critics.load("nanodet", image_size=size)


def test_settings_reach_the_critic() -> None:
    found = critics.load("nanodet", threshold=0.5, steepness=2.0, nms_iou=0.6, weights=nanodet.EMBEDDED)
    assert (found.settings.threshold, found.settings.steepness, found.settings.nms_iou) == (0.5, 2.0, 0.6)
    default = critics.load("nanodet")
    assert (default.settings.threshold, default.settings.nms_iou) == (0.35, 0.4)
    assert default.name == f"nanodet:nanodet-{nanodet.SHA256[:8]}"
