"""A detector's output for a batch of images: proposals before, candidates after non-maximum suppression."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Proposals:
    """All boxes and class logits of a detector for a batch, before non-maximum suppression.

    Attributes:
        boxes: (B, A, 4) absolute-pixel xyxy in the given image.
        logits: (B, A, C) class logits, with gradient.
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
        logits: float32 (B, K) class logits with gradient, best first (float64 from a float64 detector).
        kept: bool (B, K); False where non-maximum suppression removed the candidate. Soft and hard counts read kept
            candidates only.
    """

    boxes: Tensor
    logits: Tensor
    kept: Tensor
