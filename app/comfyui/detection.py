"""Detectors of the ComfyUI nodes.

Images of ComfyUI are float (B, H, W, 3) in [0, 1]. It runs nodes in inference mode, whose tensors can neither carry a
gradient nor enter a detector that caches them for later gradients, so every node leaves it and copies its images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from comfy import model_management
from torch import Tensor

from countgen.critics import Critic, Detections
from countgen.detector_choice import AUTO, COCO_COUNTER, OPEN_VOCABULARY, counter
from countgen.images import draw_detections
from countgen.models import load_critic

DETECTOR_TOOLTIP = f"{AUTO}: {COCO_COUNTER} for COCO's classes, otherwise {OPEN_VOCABULARY[0][0]}"
TARGETS_TOOLTIP = "how many of what, such as apple=5 or apple=5,dog=2"


def find_critic(detector: str, names: Sequence[str]) -> Critic:
    """Return the detector that an input names, checked for the objects that it will count."""
    chosen = detector.strip()
    if chosen in ("", AUTO):
        chosen = counter(names)
    critic = _critic(chosen, str(model_management.get_torch_device()))
    if not critic.detects:
        raise ValueError(f"the detector {chosen} counts without boxes; give another one")
    critic.check_distinct(names)
    return critic


def prepared(images: Tensor) -> Iterator[Tensor]:
    """Yield each image of a batch as float (1, 3, H, W) on the device, until the user interrupts."""
    for image in images.clone().movedim(-1, 1)[:, :3]:
        model_management.throw_exception_if_processing_interrupted()
        yield image.to(model_management.get_torch_device())[None]


def detected(images: Tensor, names: Sequence[str], detector: str) -> list[tuple[Tensor, tuple[Detections, ...]]]:
    """Return each image (3, H, W) of a batch with its detections, one class after the other."""
    with torch.inference_mode(False), torch.no_grad():
        critic = find_critic(detector, names)
        return [(image[0], critic.detect(image, names)[0]) for image in prepared(images)]


@lru_cache(maxsize=2)  # a gate takes several
def _critic(name: str, device: str) -> Critic:
    return load_critic(name, device)


def with_boxes(image: Tensor, detections: Sequence[Detections], label: str) -> Tensor:
    """Return an image (H, W, 3) with the boxes of every class in a colour of its own."""
    drawn = draw_detections(image, detections, label)
    return torch.frombuffer(bytearray(drawn.tobytes()), dtype=torch.uint8).view(drawn.height, drawn.width, 3) / 255
