"""The interface of a critic: a frozen network that counts objects in images, differentiably."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from countgen.critics.candidates import Candidates, Proposals
from countgen.critics.detections import Detections, detections_of, hard_count
from countgen.critics.evaluation import Evaluation
from countgen.critics.losses import CountLoss
from countgen.critics.nms import unsuppressed
from countgen.critics.settings import CriticSettings
from countgen.critics.soft_indicator import distance_to_change, soft_count
from countgen.critics.validation import AnyImage, check_names, check_targets, checked_images, to_batch
from countgen.critics.vocabulary import resolve

MAX_CANDIDATES = 1024
"""Largest number of candidates per image and object name; those that non-maximum suppression keeps come first."""
MAX_PROPOSALS = 4096
"""Largest number of proposals in non-maximum suppression, best first: thirteen for each of `Critic.max_count`."""
NO_ANSWER = -1
"""Count of a judge that abstains, such as a language model whose answer is not a number."""
ABSENT = -60.0
"""Logit of padding without a proposal: its probability is practically 0."""


class Critic:
    """A frozen network that counts objects, differentiably.

    A subclass sets the attributes and implements `propose`; one without boxes implements `evaluate` and
    `counts` instead. Weights never change and never receive a gradient; the image does.

    Args:
        model: the network, which is put into evaluation mode and frozen.
        object_names: its classes, singular; None for an open vocabulary.
        name: the critic's name in records; the name of the class's file by default.
        **settings: fields of `CriticSettings`.

    Attributes:
        name: the critic's name in records, for example "yolo:yolo11n".
        family: of the architecture, for example "yolo"; detectors of one family share their mistakes.
        object_names: the detector's classes, singular; None for an open vocabulary.
        settings: of this critic, see `configure`; the class holds the defaults.
        one_class_per_box: True where a proposal counts for its best class only.
        safe_distance: distance from the threshold, on both sides, at which a count is safe: in logits, for
            density counters in objects. A margin of 1 is this distance.
        max_count: most objects it can return per image.
        differentiable: whether its count loss carries gradient to the image; a judge needs none.
    """

    name: str
    family: str = ""
    object_names: tuple[str, ...] | None = None
    settings: CriticSettings = CriticSettings()
    one_class_per_box: bool = True
    safe_distance: float = 0.85
    max_count: int = 300
    differentiable: bool = True

    def __init__(self, model: Any, object_names: Sequence[str] | None, *, name: str = "", **settings: Any) -> None:
        self.model: Any = model.eval().requires_grad_(False)
        self.object_names = None if object_names is None else tuple(object_names)
        self.name = name or self.kind()
        self.configure(**settings)

    @classmethod
    def kind(cls) -> str:
        """Return the name of the class's file, by which `countgen.critics.load` knows it."""
        return cls.__module__.rpartition(".")[2]

    def configure(self, **settings: Any) -> None:
        """Change some of the fields of `settings`.

        Raises:
            ValueError: a value outside its range, or a setting that this critic does not have.
        """
        without = set(settings) if not self.detects else set()
        if self.settings.image_size is None:
            without |= settings.keys() & {"image_size"}
        if without:
            raise ValueError(f"{self.name} has no {' or '.join(sorted(without))} to set")
        self.settings = replace(self.settings, **settings)

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        """Run the detector once on RGB float (B, 3, H, W) in [0, 1], with gradient.

        Raises:
            TypeError: this critic counts without detecting.
        """
        raise TypeError(f"{self.name} counts without detecting and has no candidates; use evaluate or counts")

    @property
    def detects(self) -> bool:
        """Whether this critic has boxes; a density counter does not."""
        return type(self).propose is not Critic.propose

    def at_scale(self, factor: float) -> Critic:
        """Return the same detector, sharing its weights, with an input size `factor` times as large.

        A detector whose input size is fixed returns itself.
        """
        return self

    @property
    def families(self) -> frozenset[str]:
        """Families of all detectors in this critic; a class without `family` is a family of its own."""
        return frozenset([self.family or type(self).__qualname__])

    @property
    def threshold_logit(self) -> float:
        """The threshold in logit space."""
        return self.settings.threshold_logit

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the network's weights, float32 without a network: images of another one are converted to it."""
        networks = [value for value in vars(self).values() if isinstance(value, nn.Module)]
        weights = (weight.dtype for network in networks for weight in network.parameters())
        return next(weights, torch.float32)

    def column(self, object_name: str) -> int:
        """Return the class index of an object name, plural or synonym.

        Raises:
            ValueError: the detector has no such class; near matches are named.
        """
        if self.object_names is None:
            raise TypeError(f"{self.name} has an open vocabulary: it has no fixed columns")
        return resolve(object_name, self.object_names, self.name)

    def check_distinct(self, object_names: Iterable[str]) -> None:
        """Raise for names that are not a class of the detector, and for two names of one class.

        Raises:
            ValueError: the message names the two, or near matches of an unknown name.
        """
        classes: dict[int | str, str] = {}
        for object_name in object_names:
            own = object_name if self.object_names is None else self.column(object_name)
            if own in classes:
                raise ValueError(
                    f"{classes[own]!r} and {object_name!r} are one class of {self.name}; give them one count"
                )
            classes[own] = object_name

    def candidates(self, images: Tensor, object_names: Sequence[str]) -> tuple[Candidates, ...]:
        """Return the candidates for each object name, in the order given, from one forward pass.

        Args:
            images: RGB float (B, 3, H, W) in [0, 1]; gradient flows back to them.
            object_names: one or several.

        Raises:
            ValueError: images of another shape, or an object the detector does not know.
            TypeError: this critic counts without detecting.
        """
        check_names(object_names)
        return self.select(self.propose(to_batch(images).to(self.dtype), object_names))

    def select(self, proposals: Proposals) -> tuple[Candidates, ...]:
        """Return the candidates of proposals, one entry per column."""
        logits = proposals.logits if proposals.logits.dtype == torch.float64 else proposals.logits.float()
        return tuple(self._candidates_of(proposals.boxes, logits, column) for column in proposals.columns)

    def _candidates_of(self, all_boxes: Tensor, logits: Tensor, column: int) -> Candidates:
        scores = logits[..., column]
        if self.one_class_per_box and logits.shape[-1] > 1:
            # A box of another class stays below the threshold by its lead, so that it never counts here, but its
            # logit keeps a gradient.
            lead = logits.amax(-1) - scores
            scores = torch.where(lead > 0, scores.clamp(max=self.threshold_logit) - lead, scores)
        nms_iou = self.settings.nms_iou
        size = min(MAX_CANDIDATES if nms_iou is None else MAX_PROPOSALS, scores.shape[1])
        scores, order = scores.topk(size, dim=1)
        boxes = all_boxes.detach().gather(1, order[..., None].expand(-1, -1, 4))
        kept = torch.ones_like(scores, dtype=torch.bool) if nms_iou is None else unsuppressed(boxes, nms_iou)
        if size > MAX_CANDIDATES:
            # The kept ones, then the best suppressed ones up to MAX_CANDIDATES; the order stays best first.
            rank = torch.arange(size, device=scores.device) + size * ~kept
            chosen = rank.topk(MAX_CANDIDATES, largest=False).indices.sort(dim=1).values
            boxes = boxes.gather(1, chosen[..., None].expand(-1, -1, 4))
            scores, kept = scores.gather(1, chosen), kept.gather(1, chosen)
        return Candidates(boxes, scores, kept)

    @torch.no_grad()
    def detect(self, images: AnyImage, object_names: Sequence[str]) -> list[tuple[Detections, ...]]:
        """Detect objects, without gradient.

        Args:
            images: a path, a PIL image, a numpy array (H, W, 3), or RGB float (3, H, W) or (B, 3, H, W) in [0, 1].
            object_names: one or several.

        Returns:
            For each image, one `Detections` per object name in the order given; their lengths are what `counts`
            returns.

        Raises:
            ValueError: as `candidates`, or values that are not finite or far outside [0, 1].
            TypeError: this critic counts without detecting.
        """
        by_name = [
            detections_of(candidates, self.threshold_logit, name)
            for candidates, name in zip(
                self.candidates(checked_images(images), object_names), object_names, strict=True
            )
        ]
        return list(zip(*by_name, strict=True))

    def counts(self, images: Tensor, object_names: Sequence[str]) -> Tensor:
        """Return hard counts, int64 (B, len(object_names)), without gradient; `NO_ANSWER` from a judge that abstains.

        Raises:
            ValueError: as `detect`.
        """
        with torch.no_grad():
            by_name = self.candidates(checked_images(images), object_names)
        return torch.stack([hard_count(candidates, self.threshold_logit) for candidates in by_name], 1)

    def evaluate(self, images: Tensor, target_counts: Mapping[str, int], loss: CountLoss) -> Evaluation:
        """Evaluate the count loss of a batch of images for target counts.

        Args:
            images: RGB float (B, 3, H, W) in [0, 1]; gradient of the loss flows back to them.
            target_counts: by object name.
            loss: from `countgen.critics.losses`.

        Raises:
            ValueError: as `candidates`, or a count that is not a whole number of at least 0.
        """
        check_targets(target_counts, loss)
        by_name = self.candidates(images, list(target_counts))
        losses, margins = [], []
        for candidates, target_count in zip(by_name, target_counts.values(), strict=True):
            losses.append(loss(candidates, target_count, self.threshold_logit, self.settings.steepness))
            distance = distance_to_change(candidates, target_count, self.threshold_logit)
            margins.append(distance.detach() / self.safe_distance)
        return Evaluation(
            torch.stack(losses).sum(0),
            torch.stack([soft_count(c, self.threshold_logit, self.settings.steepness) for c in by_name], 1),
            torch.stack([hard_count(c, self.threshold_logit) for c in by_name], 1),
            torch.stack(margins, 1).amin(1),
        )

    def count(self, image: AnyImage, object_name: str) -> int:
        """Return how many of an object are in one image, given as to `detect`.

        Example:
            >>> load("yolo", weights="yolo11n.pt").count(image, "apple")  # doctest: +SKIP
        """
        batch = to_batch(image)
        if len(batch) != 1:
            raise ValueError(f"count takes one image, got a batch of {len(batch)}; use counts for batches")
        return int(self.counts(batch, [object_name])[0, 0])


def scale_boxes(boxes: Tensor, x: float, y: float) -> Tensor:
    """Return xyxy boxes (..., 4) with horizontal coordinates times `x` and vertical ones times `y`.

    The factors are plain numbers: a factor in a tensor is a copy from the CPU, which CUDA graphs cannot capture.
    """
    left, top, right, bottom = boxes.unbind(-1)
    return torch.stack([left * x, top * y, right * x, bottom * y], -1)


def corners(boxes: Tensor, height: float, width: float) -> Tensor:
    """Return absolute xyxy of relative (centre x, centre y, width, height) boxes (..., 4)."""
    x, y, box_width, box_height = boxes.unbind(-1)
    relative = torch.stack([x - box_width / 2, y - box_height / 2, x + box_width / 2, y + box_height / 2], -1)
    return scale_boxes(relative, width, height)


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """Return images (B, 3, height, width), resized bilinearly without antialiasing where they have another size."""
    if images.shape[-2:] == (height, width):
        return images
    return interpolate(images, (height, width), mode="bilinear", align_corners=False)


def columns(values: Tensor, wanted: Sequence[int], dim: int = -1) -> Tensor:
    """Return a few slices along a dimension; a list as an index would be a copy from the CPU, as in `scale_boxes`."""
    return torch.stack([values.select(dim, column) for column in wanted], dim)
