"""Every critic, tiny: the miniature's trained ones, and one of each other architecture."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from torch import Tensor, nn

from countgen import miniature
from countgen.critics import Critic, load
from tests.contract import tiny_counters, tiny_detectors
from tests.contract.pictures import networks_in, only_apples, rendered

BUILDERS: dict[str, Callable[[Path], Critic]] = {
    **{name: lambda _, name=name: miniature.load_detector(name) for name in miniature.DETECTORS},
    "yolov8": lambda _: tiny_detectors.yolo("v8/yolov8.yaml"),
    "yolov9": lambda _: tiny_detectors.yolo("v9/yolov9t.yaml", None),
    "yolov10": lambda _: tiny_detectors.yolo("v10/yolov10n.yaml"),
    "yolo12": lambda _: tiny_detectors.yolo("12/yolo12.yaml", (0.33, 0.25, 256)),
    "yolo26": lambda _: tiny_detectors.yolo("26/yolo26.yaml"),
    "yolo-world": lambda _: tiny_detectors.yolo_with_text("WorldModel", "v8/yolov8-worldv2.yaml"),
    "yoloe": lambda _: tiny_detectors.yolo_with_text("YOLOEModel", "v8/yoloe-v8.yaml"),
    "ultralytics-rtdetr": lambda _: tiny_detectors.ultralytics_rtdetr(),
    "owlv2": lambda _: tiny_detectors.owl("owlv2"),
    "owlvit": lambda _: tiny_detectors.owl("owlvit"),
    "grounding-dino": tiny_detectors.grounding_dino,
    "sam3": lambda _: tiny_detectors.sam3(),
    "detr": lambda _: tiny_detectors.detr(),
    "rtdetr": lambda _: tiny_detectors.real_time_detr("rt_detr"),
    "rtdetr-v2": lambda _: tiny_detectors.real_time_detr("rt_detr_v2"),
    "dfine": lambda _: tiny_detectors.real_time_detr("d_fine"),
    "fasterrcnn": lambda _: tiny_detectors.torchvision_detector("FasterRCNN"),
    "retinanet": lambda _: tiny_detectors.torchvision_detector("RetinaNet"),
    "fcos": lambda _: tiny_detectors.torchvision_detector("FCOS"),
    "ssd": lambda _: tiny_detectors.torchvision_detector("SSD"),
    # Its own weights, at the size of the contract's images.
    "nanodet": lambda _: load("nanodet", image_size=128),
    "centernet": lambda _: tiny_counters.centernet(),
    "density": lambda _: tiny_counters.density(),
    "dynamic-scale": lambda _: tiny_counters.dynamic_scale(),
}
PARTIAL = {"grounding-dino", "sam3", "rtdetr", "rtdetr-v2", "dfine", "fasterrcnn"}
"""Detectors that detach where they look next: their gradient leaves out what moving there would change."""
ONE_OF_A_KIND = [
    *("miniature-yolo", "yolo-world", "ultralytics-rtdetr", "owlv2", "grounding-dino", "sam3", "detr", "rtdetr"),
    *("fasterrcnn", "ssd", "fcos", "nanodet", "centernet", "miniature-density", "dynamic-scale"),
]
"""One critic of each class, and of each architecture that a class reads in a way of its own."""


@pytest.fixture(scope="session")
def critics(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Critic]:
    """Critics by name, each built once; no test changes one."""
    return cache(lambda name: BUILDERS[name](tmp_path_factory.mktemp("detector")))


@pytest.fixture(params=ONE_OF_A_KIND)
def kind(request: pytest.FixtureRequest, critics: Callable[[str], Critic]) -> Critic:
    return critics(request.param)


WHOLE = [name for name in BUILDERS if name not in PARTIAL and name != "dynamic-scale"]
CORE = {"centernet", "density", "retinanet"}
"""Critics whose gradient is tested in the core minute: small, and without Ultralytics."""


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.core] if name in CORE else []) for name in WHOLE])
def whole_critic(request: pytest.FixtureRequest, critics: Callable[[str], Critic]) -> Critic:
    return critics(request.param)


@pytest.fixture(params=sorted(PARTIAL))
def partial_critic(request: pytest.FixtureRequest, critics: Callable[[str], Critic]) -> Critic:
    return critics(request.param)


@pytest.fixture(params=miniature.DETECTORS)
def trained_critic(request: pytest.FixtureRequest, critics: Callable[[str], Critic]) -> Critic:
    return critics(request.param)


@pytest.fixture(scope="session")
def pictures() -> Callable[..., Tensor]:
    """Rendered pictures of apples and other objects: `pictures(number, seed=0)`."""
    return rendered


@pytest.fixture(scope="session")
def apples() -> Callable[..., Tensor]:
    """Pictures with known counts and nothing but apples: `apples((0, 3, 5), seed=0)`."""
    return only_apples


@pytest.fixture(scope="session")
def networks() -> Callable[[Critic], nn.ModuleList]:
    """The networks inside a critic."""
    return networks_in
