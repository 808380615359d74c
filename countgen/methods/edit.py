"""Change the count of one image and keep the rest: gradient only near undecided objects, low frequencies fixed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from countgen.methods.locality import local_gradient, undecided_masks
from countgen.methods.problem import Problem
from countgen.methods.refinement import RefinementSettings, refine
from countgen.methods.settings import setting
from countgen.methods.step import Budget, Step

CALIBRATED = True
"""Counts beyond the model's number words are encoded by its calibration, see `countgen.methods.registry`."""

STARTS_FROM_IMAGE = True

UNDECIDED_RANKS = 3
"""Candidates on each side of the target count, in the order of their scores, that may be added or removed."""

PHASES = ("edit", "edit, low frequencies too", "edit, mask widened")
"""Phases of steps, by level of the constraints; each names what it allows in addition to the one before."""


@dataclass(frozen=True)
class EditSettings(RefinementSettings):
    """What an edit may change. Measured by `git show 7b186aa:benchmarks/studies/edit_settings.py`."""

    num_optimization_steps: int = setting(20, "gradient steps", at_least=1)
    learning_rate: float = setting(0.05, "of the optimizer, on latents of unit variance", above=0)
    frequency_cutoff: int = setting(
        4, "frequencies up to this one stay as they are, in periods per image; -1 for none", at_least=-1
    )
    dilation: int = setting(2, "latent cells by which the boxes of undecided candidates are enlarged", at_least=0)
    safe_distance: float = setting(
        1.75, "an object this far from the threshold, in the critic's safe distances, gets no gradient", above=0
    )
    least_distance: float = setting(
        3.0, "a candidate further than this below the threshold, in safe distances, gets no gradient", above=0
    )
    enough_margin: float = setting(
        0.25, "the edit ends above this margin, over all views; 1 is a confirmed count", at_least=0
    )
    steps_confined: int = setting(
        7,
        "gradient steps after which the cut-off is halved; after as many more it is halved again and the mask widened",
        at_least=1,
    )


def edit(problem: Problem, seed: int, budget: Budget, settings: EditSettings) -> Iterator[Step]:
    """Change the count of one seed's image and keep the rest of the image.

    An image whose count is right on every view is not changed.

    Raises:
        NonFiniteLossError: the loss is not finite; the message names the step.
    """
    latents = problem.latents
    if latents is None:
        latents = problem.backbone.initial_latents([seed])
    confined = ConfinedLatents(problem, latents, settings)
    for step in refine(problem, latents, [seed], budget, settings, lambda _: confined, transform=confined.local):
        step = replace(step, phase=confined.phase)
        accepted = problem.accept(step)
        yield step
        if accepted or not budget.left or step.margin > (settings.enough_margin if step.index else 0):
            return


class ConfinedLatents(nn.Module):
    """Latents that move only where the count is undecided, and without the lowest frequencies.

    Args:
        problem: its critics give the boxes of objects.
        noise: float (1, C, h, w), the start.
        settings: of the edit.
    """

    def __init__(self, problem: Problem, noise: Tensor, settings: EditSettings) -> None:
        super().__init__()
        self._problem = problem
        self._noise = noise.detach().float()
        self._settings = settings
        self._num_steps = 0
        self.displacement = nn.Parameter(torch.zeros_like(self._noise))

    @property
    def level(self) -> int:
        """Level to which the constraints are loosened, 0 to 2."""
        return min(max(self._num_steps - 1, 0) // self._settings.steps_confined, len(PHASES) - 1)

    @property
    def phase(self) -> str:
        """Name of the latest step's phase."""
        return PHASES[self.level]

    @property
    def cutoff(self) -> int:
        """Highest frequency that is removed from the displacement."""
        cutoff = self._settings.frequency_cutoff
        return cutoff if cutoff < 0 else cutoff >> self.level

    def forward(self) -> Tensor:
        """Return the latents (1, C, h, w)."""
        # Not in the graph: Adam would make full steps of what a projected gradient has outside the mask.
        with torch.no_grad():
            self.displacement.copy_(high_pass(self.displacement, self.cutoff))
        return self._noise + self.displacement

    def local(self, gradient: Tensor, images: Tensor) -> Tensor:
        """Return the gradient where the count of the images is undecided, and 0 elsewhere."""
        self._num_steps += 1
        widened = 2 if self.level == len(PHASES) - 1 else 1
        masks = undecided_masks(
            self._problem,
            images,
            self._noise.shape[-2:],
            ranks=UNDECIDED_RANKS * widened,
            dilation=self._settings.dilation * widened,
            safe=self._settings.safe_distance * widened,
            least=self._settings.least_distance * widened,
        )
        return local_gradient(gradient, masks)


def high_pass(latents: Tensor, cutoff: int) -> Tensor:
    """Return latents without the frequencies up to a cut-off in either direction.

    Args:
        latents: float (B, C, h, w).
        cutoff: periods per image; 0 removes the mean of each channel, below 0 nothing.
    """
    if cutoff < 0:
        return latents
    height, width = latents.shape[-2:]
    vertical = torch.fft.fftfreq(height, 1 / height, device=latents.device).abs()
    horizontal = torch.fft.rfftfreq(width, 1 / width, device=latents.device)
    passed = torch.maximum(vertical[:, None], horizontal[None]) > cutoff
    return torch.fft.irfft2(torch.fft.rfft2(latents) * passed, s=(height, width))
