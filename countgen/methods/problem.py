"""The problem that every method solves: models, targets and prompt embeddings in one object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from countgen.adapters.adapter import NoiseAdapter
from countgen.backbones import Backbone, PromptEmbeds
from countgen.backbones.cuda_graphs import CUDAGraphs
from countgen.critics import Critic
from countgen.methods.objective import Objective, View
from countgen.methods.step import Budget, Step
from countgen.prompts import Target


def confirmed(step: Step) -> bool:
    """Accept the first candidate whose count is right on every view, by each critic's safe distance."""
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
        adapter: moves the latents of every seed; None for those of the seeds themselves.
    """

    backbone: Backbone
    critics: tuple[Critic, ...]
    targets: tuple[Target, ...]
    embeds: PromptEmbeds
    accept: Callable[[Step], bool] = confirmed
    latents: Tensor | None = None
    graphs: CUDAGraphs = field(default_factory=CUDAGraphs, repr=False, compare=False)
    adapter: NoiseAdapter | None = None

    @property
    def cost_of_seed(self) -> int:
        """The evaluations that the first image of a seed costs: one, and those of the adapter."""
        return 1 + (self.adapter.cost if self.adapter else 0)

    def initial_latents(self, seeds: Sequence[int], budget: Budget) -> Tensor:
        """Return the latents that methods start from, float32 (len(seeds), C, h, w), one per seed.

        The budget is charged what the adapter costs. An adapter moves each latent by itself: within a batch rounding
        differs, and a latent must not depend on its batch.
        """
        latents = self.backbone.initial_latents(seeds)
        if self.adapter is None:
            return latents
        budget.evaluations += self.adapter.cost * len(seeds)
        parts = zip(latents.split(1), seeds, strict=True)
        return torch.cat(
            [self.adapter.move(self.backbone, one, self.targets, self.embeds, [seed]) for one, seed in parts]
        )

    def objective(self, views: Sequence[View], loss: str) -> Objective:
        """Return the objective of this problem's critics and targets.

        Args:
            views: transformations under which each image is evaluated, see `countgen.methods.objective`.
            loss: a name in `countgen.critics.losses.LOSSES`.
        """
        return Objective(tuple(self.critics), tuple(self.targets), tuple(views), loss)
