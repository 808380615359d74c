"""NanoDet as a critic: equal to the published graph, right on real photographs, differentiable."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor
from torch.nn.functional import interpolate

from countgen import critics, miniature
from countgen.critics.detectors import nanodet
from countgen.critics.losses import LOSSES
from countgen.critics.vocabulary import COCO_CLASSES
from countgen.critics.weights import read
from tests.critics import tfjs_interpreter
from tests.critics.photographs import TRUTH, optimised, photograph, with_oranges

DATA = Path(__file__).parent / "nanodet"
"""The published graph, and those of its constants that are no weights of a convolution."""
PUBLISHED = {
    "nanodet.json": "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
    "nanodet.bin": "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
}
OUTPUTS = ["Identity", "Identity_1", "Identity_2", "Identity_3", "Identity_4", "Identity_5"]
"""Probabilities and distances at strides 8, 16 and 32."""
LOGITS_AND_DISTANCES = [
    f"PartitionedCall/onnx_tf_prefix_Split_{number}:{output}" for output in (0, 1) for number in (153, 164, 175)
]
"""The same before the sigmoid and the reshapes to a batch of one."""


@pytest.fixture(scope="module")
def critic() -> nanodet.NanoDetCritic:
    return nanodet.load()


@pytest.fixture(scope="module")
def graph_json() -> bytes:
    return gzip.decompress((DATA / "nanodet.json.gz").read_bytes())


@pytest.fixture(scope="module")
def graph(graph_json: bytes) -> dict[str, Any]:
    return json.loads(graph_json)


@pytest.fixture(scope="module")
def graph_weights(graph: dict[str, Any]) -> bytes:
    """The published weights file, put together from the embedded file and the other constants."""
    tensors, _, _ = read(nanodet.EMBEDDED)
    names = [name for pair in tfjs_interpreter.convolution_constants(graph) for name in pair]
    keys = [key for key, _ in nanodet.NanoDet(80).named_parameters()]
    ours = {name: tensors[key].half().numpy() for name, key in zip(names, keys, strict=True)}
    rest = gzip.decompress((DATA / "constants.bin.gz").read_bytes())
    parts = []
    for entry in graph["weightsManifest"][0]["weights"]:
        if entry["name"] in ours:
            tensor = ours[entry["name"]]
            parts.append(np.ascontiguousarray(tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor).tobytes())
        else:
            size = int(np.prod(entry["shape"])) * np.dtype(entry.get("quantization", entry)["dtype"]).itemsize
            parts.append(rest[:size])
            rest = rest[size:]
    assert rest == b""
    return b"".join(parts)


def square(name: str, side: int = 416) -> Tensor:
    return interpolate(photograph(name), (side, side), mode="bilinear")


def graph_input(images: Tensor) -> Tensor:
    mean = torch.tensor([103.53, 116.28, 123.675]).view(3, 1, 1)
    std = torch.tensor([57.375, 57.12, 58.395]).view(3, 1, 1)
    return (255 * images.flip(1) - mean) / std


def test_the_embedded_file_holds_the_published_weights_bit_for_bit(graph_json: bytes, graph_weights: bytes) -> None:
    assert hashlib.sha256(graph_json).hexdigest() == PUBLISHED["nanodet.json"]
    assert hashlib.sha256(graph_weights).hexdigest() == PUBLISHED["nanodet.bin"]


@pytest.mark.parametrize("name", TRUTH)
def test_the_network_equals_the_published_graph_on_a_photograph(
    critic: nanodet.NanoDetCritic, graph: dict[str, Any], graph_weights: bytes, name: str
) -> None:
    images = square(name)
    constants = tfjs_interpreter.constants_of(graph, graph_weights)
    with torch.no_grad():
        expected = tfjs_interpreter.run(graph, constants, graph_input(images), OUTPUTS)
        flat = [grid.flatten(2).transpose(1, 2) for grid in critic.network.maps(images)]
    found = [grid[..., :80].sigmoid() for grid in flat] + [grid[..., 80:] for grid in flat]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    assert max(float(scores.max()) for scores in expected[:3]) > 0.7


def test_a_batch_equals_the_published_graph_too(
    critic: nanodet.NanoDetCritic, graph: dict[str, Any], graph_weights: bytes
) -> None:
    images = torch.cat([square(name) for name in TRUTH])
    constants = tfjs_interpreter.constants_of(graph, graph_weights)
    # Its last reshapes are for one image; what goes into them is not.
    with torch.no_grad():
        expected = tfjs_interpreter.run(graph, constants, graph_input(images), LOGITS_AND_DISTANCES)
        maps = critic.network.maps(images)
    found = [grid[:, :80] for grid in maps] + [grid[:, 80:] for grid in maps]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


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
    overlaps = iou(torch.tensor(sorted(expected), dtype=torch.float32), found)
    assert (overlaps.amax(1) > 0.6).all(), overlaps
    assert iou(torch.tensor([[20.0, 230, 805, 740]]), buses.boxes[0, :1]) > 0.8
    assert float(people.boxes.amin()) >= 0
    assert float(people.boxes[..., 3].amax()) <= image.shape[2]
    assert float(people.boxes[..., 2].amax()) <= image.shape[3]


def iou(one: Tensor, other: Tensor) -> Tensor:
    from torchvision.ops import box_iou

    return box_iou(one, other)


def test_its_classes_are_those_of_coco_in_their_order(critic: nanodet.NanoDetCritic) -> None:
    import importlib.util

    found = importlib.util.find_spec("ultralytics")
    assert found is not None
    assert found.origin is not None
    listed = yaml.safe_load((Path(found.origin).parent / "cfg/datasets/coco.yaml").read_text())["names"]
    assert critic.object_names == tuple(listed[index] for index in range(80))
    assert critic.column("women") == critic.column("person") == 0


def test_the_gradient_on_a_photograph_equals_finite_differences() -> None:
    critic = nanodet.load()
    critic.network.double()
    image = photograph("zidane").double()
    generator = torch.Generator().manual_seed(0)
    along = torch.randn(image.shape, generator=generator, dtype=torch.float64)
    # Pixels of one colour would tie in the maximum pooling, which has no derivative there.
    image += 1e-3 * torch.randn(image.shape, generator=generator, dtype=torch.float64)
    probe = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(critic.evaluate(probe, {"person": 4}, LOSSES["margin"]).loss.sum(), probe)

    def loss(step: float) -> float:
        with torch.no_grad():
            return float(critic.evaluate(image + step * along, {"person": 4}, LOSSES["margin"]).loss)

    slope = (loss(1e-9) - loss(-1e-9)) / 2e-9
    assert float((gradient * along).sum()) == pytest.approx(slope, rel=1e-4)


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


@pytest.mark.parametrize("size", [0, 31, 400])
def test_an_image_size_that_the_grids_do_not_divide_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"multiple of 32, got {size}"):
        critics.load("nanodet", image_size=size)


def test_settings_reach_the_critic() -> None:
    found = critics.load("nanodet", threshold=0.5, steepness=2.0, nms_iou=0.6, weights=nanodet.EMBEDDED)
    assert (found.settings.threshold, found.settings.steepness, found.settings.nms_iou) == (0.5, 2.0, 0.6)
    default = critics.load("nanodet")
    assert (default.settings.threshold, default.settings.nms_iou) == (0.35, 0.4)
    assert default.name == f"nanodet:nanodet-{nanodet.SHA256[:8]}"
