"""What an optimiser yields, and what it may spend."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, field

from torch import Tensor

COST_WITH_GRADIENT = 3
"""A look and its gradient in units of a look, the usual accounting: the backward costs two."""


@dataclass(frozen=True)
class Step:
    """One look at one candidate picture. Optimisers yield these; everything else reads them.

    Attributes:
        index: 0, 1, ... within a run.
        phase: "search" where seeds are drawn, "refine" where gradients move the latents.
        seed: of the latents the candidate started from.
        loss: the count loss, summed over critics and targets, averaged over the views looked at.
        soft_counts: for each target, the first critic's soft count on the picture as it is.
        counts: for each target, its hard count from the same forward pass.
        margin: how safely the count is right, the smallest over critics, views and targets: the distance in logits from
            the threshold to the nearest candidate that would change the count if it crossed, divided by the
            `Critic.margin` that critic asks for. 0 or below: some view miscounts. Above 0: every view that was
            looked at counts right. 1 or more: confirmed. A wrong first look in a search is not asked on other views.
        image: RGB float (3, H, W) in [0, 1], no gradient.
        latents: float32 (C, h, w) that draw this picture.
        evaluations: model evaluations spent on the run when this picture was looked at: a look is one, and one
            that a gradient followed COST_WITH_GRADIENT; looking again on more views is part of the same one.
        seconds: spent on the run so far, this look included.
    """

    index: int
    phase: str
    seed: int
    loss: float
    soft_counts: tuple[float, ...]
    counts: tuple[int, ...]
    margin: float
    image: Tensor
    latents: Tensor
    evaluations: int
    seconds: float

    @property
    def confirmed(self) -> bool:
        """The count is right on every view, by the margin each critic asks for."""
        return self.margin >= 1

    @property
    def rank(self) -> float:
        """The higher, the better the candidate: right ones by their margin, above wrong ones by their loss."""
        if not math.isfinite(self.loss):
            return -math.inf
        return self.margin if self.margin > 0 else -self.loss


@dataclass
class Budget:
    """What a run may spend, and has spent; it ends when either limit is reached.

    Attributes:
        max_seconds: wall clock from when the budget is made; None for no limit. What was begun before is finished.
        max_evaluations: model evaluations, never exceeded; None for no limit.
    """

    max_seconds: float | None = None
    max_evaluations: int | None = None
    evaluations: int = 0
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        for name in ("max_seconds", "max_evaluations"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} must be above 0, got {limit}")
        if self.max_evaluations is not None and type(self.max_evaluations) is not int:
            raise ValueError(f"max_evaluations must be a whole number, got {self.max_evaluations!r}")

    @property
    def seconds(self) -> float:
        """Since the budget was made."""
        return time.perf_counter() - self.started

    @property
    def evaluations_left(self) -> int:
        """How many may still be made; sys.maxsize without a limit."""
        return sys.maxsize if self.max_evaluations is None else self.max_evaluations - self.evaluations

    @property
    def left(self) -> bool:
        """Whether another evaluation may be made."""
        return self.evaluations_left > 0 and (self.max_seconds is None or self.seconds < self.max_seconds)
