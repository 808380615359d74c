"""Wrap a user's own detector, a module or a function, as a critic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from countgen.critics.base import ABSENT, Critic
from countgen.critics.candidates import Proposals
from countgen.critics.vocabulary import UNUSED_LABELS

_CERTAIN = 1e-7
"""Distance from 0 and 1 to which probabilities are clamped: their logits stay finite in float32."""


def from_module(
    detector: Callable[[Any], Any],
    object_names: Sequence[str] | Mapping[int, str],
    *,
    name: str | None = None,
    family: str | None = None,
    one_class_per_box: bool = False,
    max_count: int = 300,
    **settings: Any,
) -> ModuleCritic:
    """Return a critic of a detector that runs in torch.

    Args:
        detector: takes RGB float images (B, 3, H, W) in [0, 1] and returns one of

            - a pair (boxes, logits): (B, A, 4) pixel xyxy and (B, A, C) class logits, before a threshold; or
            - torchvision's form: for each image a dict of `boxes` (N, 4), `scores` (N,) in [0, 1] and `labels` (N,).

            An `nn.Module` is put into evaluation mode and its parameters are frozen.
        object_names: the classes, singular, in the order of the labels or logits, "__background__" and "N/A" where a
            label stands for no object; or a dict from label to class.
        name: the critic's name in records; the name of its class or function by default.
        family: of the architecture; detectors of one family share their mistakes. The name by default.
        one_class_per_box: True where a box counts for its best class only.
        max_count: largest number of objects that it returns.
        **settings: `threshold`, `steepness` and `nms_iou` of `CriticSettings`. Detections that the detector itself
            removes below a threshold of its own are missing in the loss too: set the detector's threshold low.

    Raises:
        ValueError: it is not callable, the classes are missing, or a setting is outside its range.
        TypeError: an unknown setting.
    """
    if not callable(detector):
        raise ValueError(f"expected an nn.Module or a function from images to detections, got {detector!r}")
    if isinstance(object_names, str) or not object_names:
        raise ValueError(
            f"expected the classes in the order of the labels, like ['apple', 'dog'], or a dict from label to class, "
            f"got {object_names!r}"
        )
    critic = ModuleCritic(detector, object_names)
    critic.name = name or str(getattr(detector, "__name__", type(detector).__name__))
    critic.family = family or critic.name
    critic.one_class_per_box, critic.max_count = one_class_per_box, max_count
    critic.configure(**settings)
    return critic


class ModuleCritic(Critic):
    """A detector given as a module or a function.

    Attributes:
        has_gradient: whether its logits depend differentiably on the image; None before its first evaluation of an
            image that requires a gradient.
    """

    def __init__(self, detector: Callable[[Any], Any], object_names: Sequence[str] | Mapping[int, str]) -> None:
        if isinstance(detector, nn.Module):
            detector.eval().requires_grad_(False)
        self.detector = detector
        named = object_names if isinstance(object_names, Mapping) else dict(enumerate(object_names))
        used = {label: word for label, word in named.items() if word.lower() not in UNUSED_LABELS}
        self.labels, self.object_names = tuple(used), tuple(used.values())
        self.has_gradient: bool | None = None
        self._num_labels = None if isinstance(object_names, Mapping) else len(object_names)

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        """See `Critic.propose`.

        Raises:
            TypeError: the images require a gradient and the detector gives none.
            ValueError: the detector returned something else than `from_module` describes.
        """
        columns = tuple(self.column(name) for name in object_names)
        boxes, logits = self._read(self.detector(images), len(images))
        if torch.is_grad_enabled() and images.requires_grad:
            logits = self._with_gradient(logits, images)
        return Proposals(boxes, logits, columns)

    def _with_gradient(self, logits: Tensor, images: Tensor) -> Tensor:
        """Return the logits after a check that they depend on the images, with one backward pass the first time."""
        if not logits.requires_grad and bool((logits == ABSENT).all()):
            return logits + 0 * images.sum()  # no detections: the loss is constant
        if self.has_gradient is None and logits.requires_grad:
            (gradient,) = torch.autograd.grad(logits.sum(), images, retain_graph=True, allow_unused=True)
            self.has_gradient = gradient is not None
        if not logits.requires_grad or not self.has_gradient:
            self.has_gradient = False
            raise TypeError(
                f"{self.name} gives no gradient: its scores do not depend on the image in torch's graph (no_grad, "
                "detach or numpy inside). It can count and judge; to optimise against it, return scores with their "
                "graph, or give it as the detector of countgen.critics.dynamic_scale.DynamicScaleCritic"
            )
        return logits

    def _read(self, output: Any, number: int) -> tuple[Tensor, Tensor]:
        if isinstance(output, tuple) and len(output) == 2 and all(isinstance(entry, Tensor) for entry in output):
            return self._checked(*output, number)
        if isinstance(output, Sequence) and all(map(_is_detections, output)) and len(output) == number:
            return self._padded(output)
        raise ValueError(
            f"{self.name} returned a {type(output).__name__} for {number} images; expected a pair (boxes (B, A, 4), "
            "logits (B, A, C)), or for each image a dict of the tensors boxes (N, 4), scores (N,) and labels (N,)"
        )

    def _checked(self, boxes: Tensor, logits: Tensor, number: int) -> tuple[Tensor, Tensor]:
        if boxes.ndim != 3 or logits.ndim != 3 or boxes.shape != (number, logits.shape[1], 4):
            raise ValueError(
                f"{self.name} returned boxes {tuple(boxes.shape)} and logits {tuple(logits.shape)} for {number} "
                f"images; expected ({number}, A, 4) and ({number}, A, C)"
            )
        wanted = self._num_labels or max(self.labels) + 1
        if logits.shape[2] < wanted or (self._num_labels and logits.shape[2] > wanted):
            raise ValueError(f"{self.name} returned logits of {logits.shape[2]} classes, {wanted} are named")
        return boxes, torch.stack([logits[..., label] for label in self.labels], -1)

    def _padded(self, output: Sequence[Mapping[str, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return the boxes and logits of all images in one batch, padded where an image has fewer detections."""
        most = max(1, *(len(detections["scores"]) for detections in output))
        first = output[0]["boxes"]
        boxes = first.new_zeros(len(output), most, 4)
        logits = output[0]["scores"].new_full((len(output), most, len(self.labels)), ABSENT)
        for row, detections in enumerate(output):
            labels = detections["labels"]
            if self._num_labels and (labels >= self._num_labels).any():
                raise ValueError(
                    f"{self.name} returned the label {int(labels.max())}, and {self._num_labels} classes are "
                    "named, from label 0 on; name all of its classes in their order, a background class too"
                )
            scores = detections["scores"].clamp(_CERTAIN, 1 - _CERTAIN).logit()
            for column, label in enumerate(self.labels):
                logits[row, : len(scores), column] = torch.where(labels == label, scores, ABSENT)
            boxes[row, : len(scores)] = detections["boxes"].detach()
        return boxes, logits


def _is_detections(detections: Any) -> bool:
    if not isinstance(detections, Mapping):
        return False
    boxes, scores, labels = (detections.get(key) for key in ("boxes", "scores", "labels"))
    if not (isinstance(boxes, Tensor) and isinstance(scores, Tensor) and isinstance(labels, Tensor)):
        return False
    return scores.ndim == 1 and labels.shape == scores.shape and boxes.shape == (len(scores), 4)
