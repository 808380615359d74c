"""Count objects in images from anywhere, with the probability that a count is the wanted one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from countgen.critics import Critic
from countgen.methods.acceptance import Acceptance
from countgen.methods.objective import CONFIRMATION_VIEWS, Objective
from countgen.prompts import Target


@dataclass(frozen=True)
class Verdict:
    """What critics say of one image.

    Attributes:
        counts: the first critic's, per target.
        probability: that every target count is right.
    """

    counts: tuple[int, ...]
    probability: float


@torch.no_grad()
def verify(
    images: Tensor, critics: Sequence[Critic], targets: Sequence[Target], acceptance: Acceptance | None = None
) -> list[Verdict]:
    """Return the verdict on each image, by all critics on every confirmation view.

    Args:
        images: RGB float (B, 3, H, W) in [0, 1].
        critics: at least one that detects; the first one's counts are reported.
        targets: at least one.
        acceptance: P(right) by the margins of these critics; that of the embedded models where None.
    """
    objective = Objective(tuple(critics), tuple(targets), CONFIRMATION_VIEWS)
    evaluation = objective.evaluate(images)
    acceptance = acceptance or Acceptance()
    probability = acceptance.probability(acceptance.views, evaluation.margin, objective.columns, objective.targets)
    rows = zip(evaluation.counts.tolist(), probability.tolist(), strict=True)
    return [Verdict(tuple(counts), row_probability) for counts, row_probability in rows]
