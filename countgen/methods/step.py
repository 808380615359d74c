"""The steps that a method yields, and the budget of a run."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from countgen.errors import StopRequestedError

COST_WITH_GRADIENT = 3
"""Cost of a forward and backward pass in forward passes, by the usual convention: the backward pass costs two."""


SEARCH = "search"
"""Phase of candidates whose latents are those of their seed."""


@dataclass(frozen=True)
class Step:
    """One evaluated candidate image, as methods yield it.

    Attributes:
        index: 0, 1, ... within a run.
        phase: `SEARCH` where seeds are sampled, "refine" where gradients move the latents; an edit's are
            `PATCHES_MOVED` and `PHASES` of `countgen.methods.edit`.
        seed: of the latents the candidate started from.
        loss: the count loss, summed over critics and targets, averaged over the views that were evaluated; in a search
            that of the first critic, times the number of critics.
        soft_counts: for each target, the first critic's soft count on the untransformed image.
        counts: for each target, its hard count from the same forward pass.
        margin: as `critics.Evaluation` defines it, over the critics and views that were evaluated: 0 or below where
            some count is wrong. A search evaluates only as many of them as its decision needs.
        probability: that the count is right, as `countgen.methods.acceptance` estimates it.
        confirmed: the probability is at least `Problem.sure`.
        image: RGB float (3, H, W) in [0, 1], no gradient.
        latents: float32 (C, h, w), from which this image is rendered.
        evaluations: number of model evaluations (forward passes, NFE) spent on the run when this image was evaluated;
            a forward pass with its backward counts as COST_WITH_GRADIENT, all views together as one.
        seconds: spent on the run so far, this evaluation included.
        rendered_alone: without gradient and in no batch: rendered again, the image has the same bits.
        draft: decoded by the tiny decoder alone; methods do not yield such a step.
    """

    index: int
    phase: str
    seed: int
    loss: float
    soft_counts: tuple[float, ...]
    counts: tuple[int, ...]
    margin: float
    probability: float
    confirmed: bool
    image: Tensor
    latents: Tensor
    evaluations: int
    seconds: float
    rendered_alone: bool = False
    draft: bool = False

    @property
    def rank(self) -> float:
        """Rank of the candidate, higher is better: right ones by their probability, above wrong ones by their loss."""
        if not math.isfinite(self.loss):
            return -math.inf
        return self.probability if self.margin > 0 else -self.loss


@dataclass
class Budget:
    """The limits of a run, and the evaluations spent; the run ends when either limit is reached.

    Attributes:
        max_seconds: wall clock from the creation on; None for no limit. An evaluation in progress is finished.
        max_evaluations: model evaluations, never exceeded; None for no limit.
        stop_requested: whether the run shall end now, also within an evaluation.
        steps: number of batches evaluated so far.
    """

    max_seconds: float | None = None
    max_evaluations: int | None = None
    evaluations: int = 0
    stop_requested: Callable[[], bool] = lambda: False
    started: float = field(default_factory=time.perf_counter)
    steps: int = 0

    def __post_init__(self) -> None:
        for name in ("max_seconds", "max_evaluations"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} must be above 0, got {limit}")
        if self.max_evaluations is not None and type(self.max_evaluations) is not int:
            raise ValueError(f"max_evaluations must be a whole number, got {self.max_evaluations!r}")

    @property
    def seconds(self) -> float:
        """Seconds since the budget was created."""
        return time.perf_counter() - self.started

    @property
    def evaluations_left(self) -> int:
        """Number of evaluations that may still be made; sys.maxsize without a limit."""
        return sys.maxsize if self.max_evaluations is None else self.max_evaluations - self.evaluations

    def charge(self, evaluations: int) -> None:
        """Charge the evaluations of the next batch of images."""
        self.evaluations += evaluations
        self.steps += 1

    def check_stop(self) -> None:
        """End an evaluation that is no longer wanted; methods call this between forward and backward passes.

        Raises:
            StopRequestedError: `stop_requested` returns True.
        """
        if self.stop_requested():
            raise StopRequestedError("the run was stopped")

    @property
    def left(self) -> bool:
        """Whether another evaluation may be made."""
        return self.evaluations_left > 0 and (self.max_seconds is None or self.seconds < self.max_seconds)
