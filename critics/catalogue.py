"""Facts about published detectors that users want to know before a download."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """Licence of a detector's weights, and megabytes that are downloaded once."""

    licence: str
    megabytes: int


FACTS = {
    "yolo:yolo11m": Facts("AGPL-3.0", 41),
    "torchvision:fasterrcnn_resnet50_fpn_v2": Facts("BSD-3-Clause", 175),
    "owl:owlv2-base": Facts("Apache-2.0", 620),
    "grounding_dino:tiny": Facts("Apache-2.0", 690),
    "torchvision:retinanet_resnet50_fpn_v2": Facts("BSD-3-Clause", 146),
    "torchvision:fcos_resnet50_fpn": Facts("BSD-3-Clause", 124),
    "torchvision:ssd300_vgg16": Facts("BSD-3-Clause", 136),
    "detr:detr-resnet-50": Facts("Apache-2.0", 167),
    "detr:rtdetr-r50": Facts("Apache-2.0", 172),
    "sam3:sam3": Facts("SAM License", 3400),
}
"""Facts about the detectors that may be chosen, and others that users name."""


def with_facts(name: str) -> str:
    """Return a detector's name with its licence and size, if they are known.

    >>> with_facts("owl:owlv2-base"), with_facts("nanodet")
    ('owl:owlv2-base [Apache-2.0, 620 MB]', 'nanodet')
    """
    facts = FACTS.get(name)
    return f"{name} [{facts.licence}, {facts.megabytes} MB]" if facts else name
