"""Published detectors at full size on a GPU that is not there: fake tensors raise where tensors of two devices meet.

Left out are those whose libraries read values on the way: OWLv2's resize, Faster R-CNN's regions, Grounding DINO's
prompt and SAM 3's positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from countgen.benchmarks.speed.random_weights import build_critic
from countgen.critics import Critic
from countgen.critics.detectors.detr import DetrCritic
from countgen.critics.detectors.torchvision import TorchvisionCritic
from countgen.critics.vocabulary import COCO_CLASSES
from tests.contract.pictures import networks_in
from tests.countgen.backbones.test_fake_gpu import default_dtype


def detr(family: str) -> Critic:
    from transformers import AutoConfig, AutoModelForObjectDetection, DetrImageProcessor, RTDetrImageProcessor

    processors: dict[str, Any] = {"detr": DetrImageProcessor, "rt_detr": RTDetrImageProcessor}
    options = {"id2label": dict(enumerate(COCO_CLASSES)), "use_timm_backbone": False}
    model = AutoModelForObjectDetection.from_config(AutoConfig.for_model(family, **options))
    return DetrCritic(model, processors[family](), name=family)


def torchvision(name: str) -> Critic:
    from torchvision.models import get_model

    classes = ("__background__", *COCO_CLASSES)
    model = get_model(name, weights=None, weights_backbone=None, num_classes=len(classes))
    return TorchvisionCritic(model, classes, name=name)


DETECTORS: dict[str, Callable[[], Critic]] = {
    "detr": lambda: detr("detr"),
    "rt-detr": lambda: detr("rt_detr"),
    "retinanet": lambda: torchvision("retinanet_resnet50_fpn_v2"),
    "fcos": lambda: torchvision("fcos_resnet50_fpn"),
    "ssd": lambda: torchvision("ssd300_vgg16"),
}


def moved(critic: Critic, dtype: torch.dtype) -> Critic:
    """Return YOLO with fake weights; its strides stay numbers."""
    (network,) = networks_in(critic)
    network._apply(lambda tensor: torch.empty_like(tensor, device="cuda", dtype=dtype))
    network.model[-1].stride = [8, 16, 32]
    return critic


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", [*DETECTORS, "yolo11m"])
def test_proposals_are_computed_on_the_gpu(name: str, dtype: torch.dtype) -> None:
    on_cpu = build_critic(torch.device("cpu")) if name == "yolo11m" else None  # its construction needs values
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        with torch.device("cuda"), default_dtype(dtype):
            critic = DETECTORS[name]() if on_cpu is None else moved(on_cpu, dtype)
        images = torch.empty(2, 3, 512, 512, device="cuda", dtype=dtype)
        proposals = critic.propose(images, ["apple", "dog"])
    assert (proposals.boxes.device.type, proposals.logits.device.type) == ("cuda", "cuda")
    assert proposals.logits.dtype in (dtype, torch.float32)
    assert len(proposals.columns) == 2
