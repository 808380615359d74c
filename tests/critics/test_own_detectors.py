"""Detectors whose networks are in the package: the heat map's peaks and boxes, FCOS beside torchvision's, NanoDet."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor
from torchvision.ops import box_iou

from countgen import critics
from countgen.critics.detectors import nanodet
from countgen.critics.detectors.centernet import CenterNet, CenterNetCritic, encode_size
from countgen.critics.vocabulary import COCO_CLASSES
from countgen.critics.weights import write
from tests.contract.tiny_detectors import tiny


class Drawn(CenterNet):
    """A heat map that is given, with boxes of one size, a quarter of a cell off the middle of theirs."""

    def __init__(self, heat: Tensor, size: Tensor) -> None:
        super().__init__(heat.shape[1])
        self.heat, self.size = heat, size

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = torch.zeros_like(self.heat[:, :2])
        return self.heat, maps + self.size[:, None, None], maps + 0.25


@pytest.mark.core
def test_every_separate_peak_counts_once_its_slope_never_and_its_box_lies_around_it() -> None:
    heat = torch.full((1, 2, 32, 32), -6.0)
    for row, column in ((4, 4), (4, 10), (20, 20)):
        heat[0, 0, row - 1 : row + 2, column - 1 : column + 2] = 1.0
        heat[0, 0, row, column] = 3.0
    wanted = torch.tensor([4 * 20.75 - 5, 4 * 10.75 - 10, 4 * 20.75 + 5, 4 * 10.75 + 10])
    heat[0, 1, 10, 20] = 4.0
    critic = CenterNetCritic(Drawn(heat, encode_size(wanted)), ["cat", "dog"])
    ((cats, dogs),) = critic.detect(torch.zeros(1, 3, 128, 128), ["cat", "dog"])
    assert (len(cats), len(dogs)) == (3, 1)
    torch.testing.assert_close(dogs.boxes[0], wanted)


@pytest.mark.parametrize("name", ["miniature-heatmap", "miniature-fcos"])
def test_images_of_any_size_give_boxes_in_their_own_pixels(name: str) -> None:
    for height, width in ((128, 128), (100, 180), (512, 300)):
        boxes = tiny(name).propose(torch.rand(1, 3, height, width), ["cat"]).boxes
        furthest = (boxes[..., :2] + boxes[..., 2:]).div(2).amax((0, 1))
        assert furthest.tolist() == pytest.approx([width, height], rel=0.1)


@pytest.mark.core
def test_load_reads_names_threshold_and_half_precision_weights_and_records_the_files_hash(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, path = CenterNet(3), tmp_path / "best.safetensors"
    write(path, network.state_dict(), ["cat", "dog", "bird"], 0.3)
    critic = critics.load("centernet", weights=path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    assert (critic.object_names, critic.name) == (("cat", "dog", "bird"), f"centernet:best-{digest}")
    assert critic.settings.threshold == 0.3
    assert critics.load("centernet", weights=path, threshold=0.6).settings.threshold == 0.6
    image = torch.rand(1, 3, 128, 128)
    torch.testing.assert_close(critic.model(image)[0], network.half().float().eval()(image)[0])


@pytest.mark.core
@pytest.mark.parametrize(
    ("metadata", "help_"),
    [
        (None, r"odd\.safetensors has no list of object_names; write it with countgen"),
        ({"object_names": '["a"]'}, "does not hold the weights of a FCOS"),
        ({"object_names": "[" * 100_000}, r"odd\.safetensors has no list of object_names"),
        ({"object_names": '"abc"'}, r"odd\.safetensors has no list of object_names"),
        ({"object_names": '["a"]', "threshold": "nan"}, r"odd\.safetensors is damaged: its threshold"),
        ({"object_names": '["a"]', "threshold": "7"}, r"odd\.safetensors is damaged: its threshold"),
    ],
)
def test_a_file_of_another_form_is_an_error_that_names_it(
    metadata: dict[str, str] | None, help_: str, tmp_path: Path
) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "odd.safetensors", metadata=metadata)
    with pytest.raises(ValueError, match=help_):
        critics.load("fcos", weights=tmp_path / "odd.safetensors")
    with pytest.raises(ValueError, match="no detector weights"):
        critics.load("fcos", weights=tmp_path / "missing.safetensors")


def test_nanodet_counts_every_class_of_a_photograph_right_with_boxes_on_the_objects() -> None:
    installed = importlib.util.find_spec("ultralytics")
    assert installed is not None
    folder, critic = Path(str(installed.origin)).parent, critics.load("nanodet")
    listed = yaml.safe_load((folder / "cfg/datasets/coco.yaml").read_text())["names"]
    assert critic.object_names == tuple(listed.values()) == COCO_CLASSES
    (detections,) = critic.detect(folder / "assets" / "bus.jpg", COCO_CLASSES)
    assert {objects.object_name: len(objects) for objects in detections if len(objects)} == {"person": 4, "bus": 1}
    # Read off the photograph: left, top, right and bottom.
    people = [[223.0, 405, 345, 860], [49, 398, 245, 903], [670, 392, 810, 877], [0, 550, 65, 870]]
    for object_name, expected in (("person", people), ("bus", [[20.0, 230, 805, 740]])):
        boxes = detections[COCO_CLASSES.index(object_name)].boxes
        assert (box_iou(torch.tensor(expected), boxes).amax(1) > 0.6).all()


@pytest.mark.core
def test_nanodet_takes_settings_and_checks_its_embedded_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"threshold": 0.5, "steepness": 2.0, "nms_iou": 0.6, "image_size": 320}
    critic = critics.load("nanodet", weights=nanodet.EMBEDDED, revision=None, **given)
    assert critic.settings == critics.CriticSettings(**given)
    with pytest.raises(ValueError, match="multiple of 32, got 400"):
        critics.load("nanodet", image_size=400)
    damaged = bytearray(nanodet.EMBEDDED.read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(damaged)
    monkeypatch.setattr(nanodet, "EMBEDDED", tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"is damaged: its SHA-256 is .* install the package again"):
        critics.load("nanodet")
