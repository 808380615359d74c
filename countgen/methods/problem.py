"""The problem that every method solves: models, targets and prompt embeddings in one object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from countgen.backbones import Backbone, PromptEmbeds
from countgen.backbones.cuda_graphs import CUDAGraphs
from countgen.critics import Critic
from countgen.critics.losses import CountLoss
from countgen.methods import DEFAULT_SURE
from countgen.methods.acceptance import Acceptance
from countgen.methods.objective import Objective, View
from countgen.methods.step import Step
from countgen.prompts import Target


def confirmed(step: Step) -> bool:
    """Accept the first candidate whose count is confirmed."""
    return step.confirmed


@dataclass(frozen=True)
class Problem:
    """A prompt to be rendered with the right counts.

    Attributes:
        backbone: the frozen text-to-image pipeline.
        critics: at least one; the first one's counts are reported.
        targets: at least one.
        embeds: of the prompt, batch of 1.
        accept: a method calls it once for each step, before it yields the step, and ends after the one for which it
            returns True.
        latents: float (1, C, h, w) that a method with `STARTS_FROM_IMAGE` starts from; None for those of the seed.
        graphs: CUDA graphs that runs of the same models share.
        acceptance: P(right) by margin, of this model.
        sure: P(right) from which on a count is confirmed, in (0, 1).
    """

    backbone: Backbone
    critics: tuple[Critic, ...]
    targets: tuple[Target, ...]
    embeds: PromptEmbeds
    accept: Callable[[Step], bool] = confirmed
    latents: Tensor | None = None
    graphs: CUDAGraphs = field(default_factory=CUDAGraphs, repr=False, compare=False)
    acceptance: Acceptance = field(default_factory=Acceptance)
    sure: float = DEFAULT_SURE

    def objective(self, views: Sequence[View], loss: str | CountLoss) -> Objective:
        """Return the objective of this problem's critics and targets.

        Args:
            views: transformations under which each image is evaluated, see `countgen.methods.objective`.
            loss: as of `Objective`.
        """
        return Objective(tuple(self.critics), tuple(self.targets), tuple(views), loss)
