"""What a critic promises, and the data that crosses its border."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from critics.requests import check_names, check_question, checked_pictures, to_batch
from critics.soft_indicator import hard_count, margin, soft_count
from critics.suppression import unsuppressed
from critics.vocabulary import resolve

if TYPE_CHECKING:
    from PIL.Image import Image

    from critics.losses import CountLoss

MAX_CANDIDATES = 1024
"""Hypotheses a critic returns per image and object name; those that duplicate suppression keeps come first."""
MAX_PROPOSALS = 4096
"""Proposals it looks for them among, best first: thirteen for each of the 300 objects a critic promises to count."""
ABSENT = -60.0
"""Logit of a place that holds no proposal; no float32 probability is lower."""


@dataclass(frozen=True)
class Proposals:
    """Everything a detector says about a batch, before duplicates are removed.

    Attributes:
        boxes: (B, A, 4) absolute-pixel xyxy in the image that was given.
        logits: (B, A, C) class logits, graph attached.
        columns: for each requested object name, its class index in 0..C-1.
    """

    boxes: Tensor
    logits: Tensor
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Candidates:
    """Object hypotheses for ONE object name in each image of a batch, best first.

    Attributes:
        boxes: (B, K, 4) absolute-pixel xyxy, no gradient.
        logits: float32 (B, K) class logits, graph attached, best first (float64 from a float64 detector).
        kept: bool (B, K); False where a better candidate covers the same object. Soft and hard
            counts read kept candidates only.
    """

    boxes: Tensor
    logits: Tensor
    kept: Tensor


@dataclass(frozen=True)
class Assessment:
    """What a critic says about a batch of pictures and the counts they should have.

    Attributes:
        loss: (B,), with gradient, summed over the objects.
        soft_counts: (B, T), with gradient, one column per object asked for.
        counts: int64 (B, T), from the same forward pass.
        margin: (B,), no gradient: the smallest distance, over the objects, between the threshold and a
            candidate that would change the count, in units of `Critic.margin`; above 0 where every count is
            right, trusted from 1 on.
    """

    loss: Tensor
    soft_counts: Tensor
    counts: Tensor
    margin: Tensor


class Critic:
    """A frozen network that counts, differentiably.

    A subclass sets the attributes and implements `propose`; one that finds no boxes implements `assess` and
    `counts` instead. Weights never change and never receive a gradient; the image does.

    Attributes:
        name: what records call this critic, for example "yolo:yolo11n".
        family: of detectors, for example "yolo": what fools one of a family fools the others.
        object_names: the classes it knows, singular; None for an open vocabulary.
        threshold: probability in (0, 1) above which a candidate is counted.
        steepness: slope of the soft indicator, per logit.
        nms_iou: intersection over union above which two candidates are one object; None where the
            detector's training already removes duplicates.
        one_class_per_box: True where a proposal counts for its best class only.
        margin: logits beyond the threshold, on both sides, at which the count is trusted.
        max_count: objects it can return per picture.
    """

    name: str
    family: str = ""
    object_names: tuple[str, ...] | None = None
    threshold: float = 0.5
    steepness: float = 4.0
    nms_iou: float | None = 0.5
    one_class_per_box: bool = True
    margin: float = 0.85
    max_count: int = 300

    def propose(self, images: Tensor, object_names: Sequence[str]) -> Proposals:
        """Run the detector once on RGB float (B, 3, H, W) in [0, 1], graph attached.

        Raises:
            TypeError: this critic counts without detecting.
        """
        raise TypeError(f"{self.name} counts without detecting, it has no candidates; use assess or counts")

    def at_scale(self, factor: float) -> Critic:
        """The same detector, sharing its weights, seeing pictures `factor` times as large.

        A detector whose input size is fixed sees them as before.
        """
        return self

    @property
    def families(self) -> frozenset[str]:
        """Of every detector in it; a class that names no family is one of its own."""
        return frozenset([self.family or type(self).__qualname__])

    def check(self) -> None:
        """Refuse settings that mean nothing; `critics.load` asks.

        Raises:
            ValueError: the threshold, steepness, NMS IoU or image size is out of its range.
        """
        size = getattr(self, "image_size", 1)
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold must be a probability above 0 and below 1, got {self.threshold}")
        if not self.steepness > 0 or not math.isfinite(self.steepness):
            raise ValueError(f"steepness must be above 0, got {self.steepness}")
        if self.nms_iou is not None and not 0 < self.nms_iou <= 1:
            raise ValueError(f"nms_iou must be above 0 and at most 1, got {self.nms_iou}")
        if size < 1:
            raise ValueError(f"image_size must be at least 1 pixel, got {size}")

    @property
    def threshold_logit(self) -> float:
        """The threshold in logit space, log(t / (1 - t))."""
        return math.log(self.threshold / (1 - self.threshold))

    def column(self, object_name: str) -> int:
        """Class index of an object name, plural or synonym.

        Raises:
            ValueError: the detector has no such class; near matches are named.
        """
        if self.object_names is None:
            raise TypeError(f"{self.name} has an open vocabulary: it has no fixed columns")
        return resolve(object_name, self.object_names, self.name)

    def candidates(
        self, images: Tensor, object_names: Sequence[str], *, others: bool = False
    ) -> tuple[Candidates, ...]:
        """Candidates for each object name, from one forward pass.

        Args:
            images: RGB float (B, 3, H, W) in [0, 1]; gradient flows back to them.
            object_names: one or several.
            others: append the candidates of everything else the detector knows, taken together.

        Returns:
            One `Candidates` per object name, in the order given.

        Raises:
            ValueError: images of another shape, or an object the detector does not know.
        """
        check_names(object_names)
        return self.select(self.propose(to_batch(images), object_names), others=others)

    def select(self, proposals: Proposals, *, others: bool = False) -> tuple[Candidates, ...]:
        """Candidates of proposals that are there already; one per column, as `candidates` returns them."""
        logits = proposals.logits if proposals.logits.dtype == torch.float64 else proposals.logits.float()
        found = [self._candidates_of(proposals.boxes, logits, column) for column in proposals.columns]
        if others:
            found.append(self._candidates_of(*self._of_others(proposals.boxes, logits, proposals.columns)))
        return tuple(found)

    def _of_others(self, boxes: Tensor, logits: Tensor, columns: Sequence[int]) -> tuple[Tensor, Tensor, int]:
        """Boxes, logits with every class outside `columns` merged into one, and that one's column."""
        if self.object_names is None:
            raise ValueError(f"{self.name} has an open vocabulary; name the other objects, with a target count of 0")
        rest = [column for column in range(logits.shape[-1]) if column not in columns]
        if not rest:
            raise ValueError(f"{self.name} knows no objects besides those asked for")
        merged = torch.cat([logits[..., list(columns)], logits[..., rest].amax(-1, keepdim=True)], -1)
        return boxes, merged, len(columns)

    def _candidates_of(self, all_boxes: Tensor, logits: Tensor, column: int) -> Candidates:
        scores = logits[..., column]
        if self.one_class_per_box and logits.shape[-1] > 1:
            # A box of another class stays below the threshold, and lower the clearer that class is,
            # so it never counts here but can still be pulled over.
            lead = logits.amax(-1) - scores
            scores = torch.where(lead > 0, scores.clamp(max=self.threshold_logit) - lead, scores)
        size = min(MAX_PROPOSALS if self.nms_iou is not None else MAX_CANDIDATES, scores.shape[1])
        scores, order = scores.topk(size, dim=1)
        boxes = all_boxes.detach().gather(1, order[..., None].expand(-1, -1, 4))
        everything = torch.ones_like(scores, dtype=torch.bool)
        kept = everything if self.nms_iou is None else unsuppressed(boxes, self.nms_iou)
        if size > MAX_CANDIDATES:
            # The kept ones, and the best suppressed ones where there is room; still best first.
            rank = torch.arange(size, device=scores.device) + size * ~kept
            chosen = rank.topk(MAX_CANDIDATES, largest=False).indices.sort(dim=1).values
            boxes = boxes.gather(1, chosen[..., None].expand(-1, -1, 4))
            scores, kept = scores.gather(1, chosen), kept.gather(1, chosen)
        return Candidates(boxes, scores, kept)

    def counts(self, images: Tensor, object_names: Sequence[str]) -> Tensor:
        """Hard counts, int64 (B, len(object_names)), without gradient.

        Raises:
            ValueError: as `candidates`, or values that are not finite or far outside [0, 1].
        """
        with torch.no_grad():
            found = self.candidates(checked_pictures(images), object_names)
        return torch.stack([hard_count(c, self.threshold_logit) for c in found], 1)

    def assess(
        self, images: Tensor, target_counts: Mapping[str, int], loss: CountLoss, *, others: bool = False
    ) -> Assessment:
        """Compare a batch with the counts it should have.

        Args:
            images: RGB float (B, 3, H, W) in [0, 1]; gradient of the loss flows back to them.
            target_counts: how many of each object.
            loss: from `critics.losses`.
            others: also ask for none of the other objects the detector knows.

        Raises:
            ValueError: as `candidates`, or a count that is no whole number from 0 on.
        """
        check_question(target_counts, loss)
        found = self.candidates(images, list(target_counts), others=others)
        wanted = [*target_counts.values(), 0]
        losses, margins = [], []
        for candidates, target_count in zip(found, wanted, strict=False):
            losses.append(loss(candidates, target_count, self.threshold_logit, self.steepness))
            margins.append(margin(candidates, target_count, self.threshold_logit).detach() / self.margin)
        named = found[: len(target_counts)]
        return Assessment(
            torch.stack(losses).sum(0),
            torch.stack([soft_count(c, self.threshold_logit, self.steepness) for c in named], 1),
            torch.stack([hard_count(c, self.threshold_logit) for c in named], 1),
            torch.stack(margins, 1).amin(1),
        )

    def count(self, image: Image | Tensor, object_name: str) -> int:
        """How many of an object are in one picture.

        Example:
            >>> load("yolo", weights="yolo11n.pt").count(picture, "apple")  # doctest: +SKIP
        """
        batch = to_batch(image)
        if len(batch) != 1:
            raise ValueError(f"count takes one picture, got a batch of {len(batch)}; use counts for batches")
        return int(self.counts(batch, [object_name])[0, 0])


def scale_boxes(boxes: Tensor, x: float, y: float) -> Tensor:
    """xyxy boxes (..., 4) with horizontal coordinates times `x` and vertical ones times `y`.

    Plain numbers, since a factor in a tensor is a copy from the CPU, which a CUDA graph cannot hold.
    """
    left, top, right, bottom = boxes.unbind(-1)
    return torch.stack([left * x, top * y, right * x, bottom * y], -1)


def columns(values: Tensor, wanted: Sequence[int], dim: int = -1) -> Tensor:
    """A few places along a dimension; a list as an index would be a copy from the CPU, as in `scale_boxes`."""
    return torch.stack([values.select(dim, column) for column in wanted], dim)
