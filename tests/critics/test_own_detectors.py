"""Detectors whose networks are in the package: the heat map's peaks and boxes, FCOS beside torchvision's, NanoDet."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.ops import box_iou

from countgen import critics, miniature
from countgen.critics.candidates import Candidates
from countgen.critics.detectors import centernet, nanodet
from countgen.critics.detectors.centernet import CenterNetCritic, decode, encode_size
from countgen.critics.networks.hourglass import STRIDE
from countgen.critics.vocabulary import COCO_CLASSES
from countgen.critics.weights import write
from countgen.miniature.world import OBJECT_NAMES
from tests.contract.pictures import rendered

JUDGE = miniature.FOLDER / "judge" / "model.safetensors"


class Drawn(centernet.CenterNet):
    """A heat map that is given, with boxes of one size and offset."""

    def __init__(self, heat: Tensor, size: float, offset: float) -> None:
        super().__init__(heat.shape[1])
        self.heat, self.size, self.offset = heat, size, offset

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.heat[:, :2]
        return self.heat, torch.full_like(maps, self.size), torch.full_like(maps, self.offset)


def candidates_of(heat: Tensor, size: float = 0.0, offset: float = 0.0) -> tuple[Candidates, ...]:
    critic = CenterNetCritic(Drawn(heat, size, offset), ["cat", "dog"])
    return critic.candidates(torch.zeros(1, 3, 128, 128), ["cat", "dog"])


@pytest.mark.core
def test_every_separate_peak_counts_once_and_its_slope_never() -> None:
    heat = torch.full((1, 2, 32, 32), -6.0)
    for row, column in ((4, 4), (4, 10), (20, 20)):
        heat[0, 0, row - 1 : row + 2, column - 1 : column + 2] = 1.0
        heat[0, 0, row, column] = 3.0
    cats, dogs = candidates_of(heat)
    assert int((cats.kept & (cats.logits > 0)).sum()) == 3
    assert int((dogs.kept & (dogs.logits > 0)).sum()) == 0


@pytest.mark.core
def test_a_box_lies_around_its_peak_and_sizes_decode_to_the_boxes_they_encode() -> None:
    heat = torch.full((1, 2, 32, 32), -6.0)
    heat[0, 1, 10, 20] = 4.0
    wanted = torch.tensor([76.0, 36.0, 92.0, 52.0])
    _, dogs = candidates_of(heat, size=float(encode_size(wanted)[0]), offset=0.5)
    torch.testing.assert_close(dogs.boxes[0, 0], wanted)
    boxes = torch.tensor([[10.0, 20.0, 40.0, 30.0]])
    cells = (boxes[:, :2] + boxes[:, 2:]) / 2 / STRIDE
    offset = (cells - cells.floor() - 0.5)[:, :, None, None].expand(-1, -1, 32, 32)
    log_size = encode_size(boxes)[:, :, None, None].expand(-1, -1, 32, 32)
    index = int(cells[0, 1].floor() * 32 + cells[0, 0].floor())
    torch.testing.assert_close(decode(log_size, offset)[:, index], boxes)


@pytest.mark.parametrize(("height", "width"), [(128, 128), (144, 144), (100, 180), (512, 300)])
def test_images_of_any_size_give_boxes_in_their_own_pixels(height: int, width: int) -> None:
    torch.manual_seed(0)
    critic = CenterNetCritic(centernet.CenterNet(2), ["cat", "dog"])
    boxes = critic.propose(torch.rand(1, 3, height, width), ["cat"]).boxes
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    assert float(centres[..., 0].max()) == pytest.approx(width, rel=0.06)
    assert float(centres[..., 1].max()) == pytest.approx(height, rel=0.06)


@pytest.mark.core
def test_load_reads_names_threshold_and_half_precision_weights_and_records_the_files_hash(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, path = centernet.CenterNet(3), tmp_path / "best.safetensors"
    write(path, network.state_dict(), ["cat", "dog", "bird"], 0.3)
    critic = critics.load("centernet", weights=path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    assert (critic.object_names, critic.name) == (("cat", "dog", "bird"), f"centernet:best-{digest}")
    assert critic.settings.threshold == 0.3
    assert critics.load("centernet", weights=path, threshold=0.6).settings.threshold == 0.6
    image = torch.rand(1, 3, 128, 128)
    torch.testing.assert_close(critic.model(image)[0], network.half().float().eval()(image)[0])
    (tmp_path / "heatmap").mkdir()
    shutil.copy(path, tmp_path / "heatmap" / "model.safetensors")
    assert (
        critics.load("centernet", weights=tmp_path / "heatmap/model.safetensors").name == f"centernet:heatmap-{digest}"
    )


@pytest.mark.core
@pytest.mark.parametrize(
    ("metadata", "help_"),
    [
        (None, "has no object names; write it with countgen.critics.weights.write"),
        ({"object_names": '["a"]'}, "does not hold the weights of a FCOS"),
        ({"object_names": "[" * 100_000}, r"odd\.safetensors is damaged: its object_names"),
        ({"object_names": "[[1]]"}, r"odd\.safetensors is damaged: its object_names"),
        ({"object_names": '"abc"'}, r"odd\.safetensors is damaged: its object_names"),
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


@pytest.mark.core
@pytest.mark.parametrize("size", [(128, 128), (200, 160)])
def test_the_judge_counts_as_torchvisions_own_post_processing(size: tuple[int, int]) -> None:
    critic, images = critics.load("fcos", weights=JUDGE), rendered(12)
    if size != (128, 128):
        images = interpolate(images, size=size, mode="bicubic").clamp(0, 1)
    assert (critic.object_names, critic.settings.threshold) == (OBJECT_NAMES, 0.5)
    critic.model.score_thresh = 0.5
    with torch.no_grad():
        expected = torch.stack([torch.bincount(image["labels"], minlength=24) for image in critic.model(list(images))])
    assert critic.counts(images, OBJECT_NAMES).tolist() == expected.tolist()
    assert len(set(expected[:, OBJECT_NAMES.index("apple")].tolist())) > 2
    boxes = critic.propose(images, ["apple"]).boxes
    assert float(boxes[..., 0::2].max()) <= size[1]
    assert 120 < float(boxes[..., 1::2].max()) <= size[0]


def ultralytics_folder() -> Path:
    installed = importlib.util.find_spec("ultralytics")
    assert installed is not None
    assert installed.origin is not None
    return Path(installed.origin).parent


@pytest.mark.parametrize(("name", "truth"), [("bus", {"person": 4, "bus": 1}), ("zidane", {"person": 2})])
def test_nanodet_counts_every_class_of_a_photograph_right_with_boxes_on_the_objects(
    name: str, truth: dict[str, int]
) -> None:
    critic, path = critics.load("nanodet"), ultralytics_folder() / "assets" / f"{name}.jpg"
    (detections,) = critic.detect(path, COCO_CLASSES)
    assert {objects.object_name: len(objects) for objects in detections if len(objects)} == truth
    if name == "bus":
        # Read off the photograph: left, top, right and bottom.
        people = [[223.0, 405, 345, 860], [49, 398, 245, 903], [670, 392, 810, 877], [0, 550, 65, 870]]
        bus = [[20.0, 230, 805, 740]]
        for object_name, expected in (("person", people), ("bus", bus)):
            boxes = detections[COCO_CLASSES.index(object_name)].boxes
            assert (box_iou(torch.tensor(expected), boxes).amax(1) > 0.6).all()
            assert (boxes >= 0).all()
            assert (boxes <= torch.tensor([810.0, 1080, 810, 1080])).all()


def test_nanodets_classes_are_those_of_coco_in_their_order() -> None:
    listed = yaml.safe_load((ultralytics_folder() / "cfg/datasets/coco.yaml").read_text())["names"]
    assert critics.load("nanodet").object_names == tuple(listed.values()) == COCO_CLASSES


@pytest.mark.core
def test_nanodet_takes_settings_and_checks_its_embedded_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default = critics.load("nanodet")
    assert (default.settings.threshold, default.settings.nms_iou) == (0.35, 0.4)
    assert default.name == f"nanodet:nanodet-{nanodet.SHA256[:8]}"
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
