"""torchvision's detectors (Faster R-CNN, RetinaNet, FCOS, SSD) as differentiable critics."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import detection, get_model, get_model_weights, list_models

from countgen.critics.base import ABSENT, Critic, columns, scale_boxes
from countgen.critics.candidates import Proposals
from countgen.critics.soft_indicator import geometric_mean_logits, softmax_logits
from countgen.critics.vocabulary import UNUSED_LABELS
from countgen.critics.weights import explained, recorded_as
from countgen.files.reading import open_regular, read_bytes

SUFFIXES = (".pth", ".safetensors")
"""File name endings of the user's own weights."""
MAX_NAMES_BYTES = 1024 * 1024
MAX_CLASSES = 10_000


def load(
    *,
    weights: str = "fasterrcnn_resnet50_fpn_v2",
    revision: str = "DEFAULT",
    device: str | torch.device = "cpu",
) -> TorchvisionCritic:
    """Load a critic with torchvision's published COCO weights, or the user's own.

    Args:
        weights: a model of `torchvision.models.list_models(torchvision.models.detection)`.
        revision: a name of its weights, for example "COCO_V1", whose files are checked against the hash in their
            names; or a file of the user's, see `_own`.
        device: where it runs.

    Raises:
        ValueError: no such model or weights, or an architecture that is not supported.
    """
    known = list_models(detection)
    if weights not in known:
        raise ValueError(f"torchvision has no detector {weights!r}; available: {', '.join(known)}")
    choices = get_model_weights(weights).__members__
    path = Path(revision)
    if path.suffix in SUFFIXES:
        tensors, categories = _own(path, choices["DEFAULT"].meta["categories"])
        name = recorded_as("torchvision", path)
    elif revision in choices:
        tensors = choices[revision].get_state_dict(check_hash=True, weights_only=True)
        categories = choices[revision].meta["categories"]
        name = f"torchvision:{weights}"
    else:
        raise ValueError(f"{weights} has no weights {revision!r}; available: {', '.join(choices)}")
    model = get_model(weights, weights=None, weights_backbone=None, num_classes=len(categories))
    with explained(f"{revision} does not hold the weights of {weights}"):
        model.load_state_dict(tensors)
    return TorchvisionCritic(model.to(device), categories, name=name)


def _own(path: Path, published: Sequence[str]) -> tuple[dict[str, Tensor], list[str]]:
    """Read a state dict and its classes, label 0 first; no code in the file runs.

    A `.safetensors` holds the classes as a JSON list "object_names" in its metadata; a `.pth` has them beside it, one a
    line in a file of its name with the suffix `.txt`, or, without that file, has torchvision's published ones.
    """
    open_regular(path).close()  # raises for a missing file, a pipe or a device
    listed = path.with_suffix(".txt")
    with explained(f"cannot read {path}, it is damaged or something else"):
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                names = json.loads((file.metadata() or {}).get("object_names", "null"))
            tensors = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
            names = read_bytes(listed, MAX_NAMES_BYTES).decode().splitlines() if listed.exists() else list(published)
    if not isinstance(names, list) or not 2 <= len(names) <= MAX_CLASSES:
        raise ValueError(
            f'{path} needs the names of its classes, the background first: a JSON list "object_names" in the metadata '
            f"of a .safetensors, or lines of {listed.name}"
        )
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError(f"{path} is not a state dict; save model.state_dict(), not the model or a whole checkpoint")
    return tensors, [str(name) for name in names]


class TorchvisionCritic(Critic):
    """A detector of torchvision, read before its own threshold and non-maximum suppression.

    Every class of a box has a score and a non-maximum suppression of its own, as in torchvision. Faster R-CNN's
    region proposals are detached by design; its class scores carry gradient through the pooled features.
    """

    one_class_per_box = False

    def __init__(self, model: Any, categories: Sequence[str], *, name: str) -> None:
        readers: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
            "FasterRCNN": self._read_regions,
            "FCOS": self._read_locations,
            "RetinaNet": self._read_anchors,
            "SSD": self._read_default_boxes,
        }
        architecture = type(model).__name__
        if architecture not in readers:
            raise ValueError(f"{name} is a {architecture}; supported architectures: {', '.join(readers)}")
        self._read = readers[architecture]
        self.family = architecture.lower()
        self._labels = [label for label, word in enumerate(categories) if word.lower() not in UNUSED_LABELS]
        post_processing = getattr(model, "roi_heads", model)
        names = [categories[label] for label in self._labels]
        super().__init__(model, names, name=name, nms_iou=float(post_processing.nms_thresh))
        self.max_count = int(post_processing.detections_per_img)

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        """See `Critic.propose`; boxes are clipped to the image."""
        labels = [self._labels[self.column(name)] for name in object_names]
        batch, _ = self.model.transform(list(images))
        features = self.model.backbone(batch.tensors)
        if isinstance(features, Tensor):
            features = OrderedDict([("0", features)])
        boxes, logits = self._read(batch, features, labels)
        seen_height, seen_width = batch.image_sizes[0]
        height, width = images.shape[-2:]
        # Clipped to the unit square, which needs no tensor of the sizes.
        boxes = scale_boxes(boxes, 1 / seen_width, 1 / seen_height).clamp(0, 1)
        boxes = scale_boxes(boxes, width, height)
        return Proposals(boxes, logits, tuple(range(len(object_names))))

    def _read_regions(self, batch: Any, features: dict[str, Tensor], labels: list[int]) -> tuple[Tensor, Tensor]:
        """Faster R-CNN refines each region's box for each class: one block of proposals per label."""
        regions, _ = self.model.rpn(batch, features)
        heads = self.model.roi_heads
        pooled = heads.box_head(heads.box_roi_pool(features, regions, batch.image_sizes))
        class_logits, regression = heads.box_predictor(pooled)
        all_boxes = columns(heads.box_coder.decode(regression, regions), labels, 1)
        all_logits = columns(softmax_logits(class_logits), labels, 1)
        sizes = [len(boxes) for boxes in regions]
        boxes = all_boxes.new_zeros(len(sizes), len(labels), max(sizes), 4)
        logits = all_logits.new_full((len(sizes), len(labels), max(sizes), len(labels)), ABSENT)
        by_image = zip(all_boxes.split(sizes), all_logits.split(sizes), strict=True)
        for row, (image_boxes, scores) in enumerate(by_image):
            for block in range(len(labels)):
                boxes[row, block, : sizes[row]] = image_boxes[:, block].detach()
                logits[row, block, : sizes[row], block] = scores[:, block]
        return boxes.flatten(1, 2), logits.flatten(1, 2)

    def _read_locations(self, batch: Any, features: dict[str, Tensor], labels: list[int]) -> tuple[Tensor, Tensor]:
        """FCOS scores sqrt(class probability * centreness)."""
        outputs, anchors = self._head(batch, features)
        boxes = self.model.box_coder.decode(outputs["bbox_regression"], anchors)
        return boxes, geometric_mean_logits(columns(outputs["cls_logits"], labels), outputs["bbox_ctrness"])

    def _read_anchors(self, batch: Any, features: dict[str, Tensor], labels: list[int]) -> tuple[Tensor, Tensor]:
        """RetinaNet scores every class of every anchor by a sigmoid."""
        outputs, anchors = self._head(batch, features)
        return self._decoded(outputs["bbox_regression"], anchors), columns(outputs["cls_logits"], labels)

    def _read_default_boxes(self, batch: Any, features: dict[str, Tensor], labels: list[int]) -> tuple[Tensor, Tensor]:
        """SSD scores by a softmax over the classes and the background."""
        outputs, anchors = self._head(batch, features)
        logits = softmax_logits(outputs["cls_logits"])
        return self._decoded(outputs["bbox_regression"], anchors), columns(logits, labels)

    def _head(self, batch: Any, features: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        maps = list(features.values())
        return self.model.head(maps), torch.stack(self.model.anchor_generator(batch, maps))

    def _decoded(self, regression: Tensor, anchors: Tensor) -> Tensor:
        decode = self.model.box_coder.decode_single
        return torch.stack([decode(*pair) for pair in zip(regression, anchors, strict=True)])
