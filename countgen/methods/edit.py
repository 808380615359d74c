"""Change the count of one image and keep the rest: gradient only near undecided objects, coarse layout held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from countgen.methods.problem import Problem
from countgen.methods.refinement import RefinementSettings, refine
from countgen.methods.settings import setting
from countgen.methods.step import Budget, Step

PHASES = ("edit", "edit, low frequencies too", "edit, mask widened")
"""Phases of steps, by how far the constraints were loosened; each says what is allowed besides what came before."""

UNDECIDED_RANKS = 3
"""Candidates on each side of the target count, in order of their scores, that may have to appear or to go."""


@dataclass(frozen=True)
class EditSettings(RefinementSettings):
    """What an edit may change. benchmarks/studies/edit_settings.py measures it, benchmarks/results has the records."""

    num_optimization_steps: int = setting(20, "gradient steps from the one start", at_least=1)
    learning_rate: float = setting(0.05, "of the optimizer, on latents of unit variance", above=0)
    frequency_cutoff: int = setting(
        4, "the displacement has no frequencies up to this one, in periods per image; -1 for no limit", at_least=-1
    )
    dilation: int = setting(2, "latent cells by which the boxes of undecided candidates are enlarged", at_least=0)
    safe_distance: float = setting(
        1.75, "an object this far from the threshold, in the critic's safe distances, is left alone", above=0
    )
    least_distance: float = setting(
        3.0, "a candidate further than this below the threshold, in safe distances, is no place for an object", above=0
    )
    enough_margin: float = setting(
        0.25, "the edit ends above this margin, over all views; 1 is a count that is confirmed", at_least=0
    )
    steps_confined: int = setting(
        7,
        "gradient steps after which the cut-off is halved; after as many more, again, and the mask widened",
        at_least=1,
    )


def edit(problem: Problem, seed: int, budget: Budget, settings: EditSettings) -> Iterator[Step]:
    """Change the count of one seed's image and keep the rest of the image.

    An image whose count is right on every view is left alone.

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
        problem: whose critics say where objects are.
        noise: float (1, C, h, w) to start from.
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
        """How far the constraints are loosened, 0 to 2."""
        return min(max(self._num_steps - 1, 0) // self._settings.steps_confined, len(PHASES) - 1)

    @property
    def phase(self) -> str:
        """What the latest step is called."""
        return PHASES[self.level]

    @property
    def cutoff(self) -> int:
        """The highest frequency that the displacement does not have."""
        cutoff = self._settings.frequency_cutoff
        return cutoff if cutoff < 0 else cutoff >> self.level

    def forward(self) -> Tensor:
        """Return the latents (1, C, h, w)."""
        # Not in the graph: Adam would make full steps of what a projected gradient has outside the mask.
        with torch.no_grad():
            self.displacement.copy_(high_pass(self.displacement, self.cutoff))
        return self._noise + self.displacement

    def local(self, gradient: Tensor, images: Tensor) -> Tensor:
        """Return the gradient where the count of the images is undecided, and 0 elsewhere.

        Where nothing is near the decision, so that objects may appear anywhere, it is returned as it is.
        """
        self._num_steps += 1
        widened = 2 if self.level == len(PHASES) - 1 else 1
        mask = undecided_mask(
            self._problem,
            images,
            self._noise.shape[-2:],
            ranks=UNDECIDED_RANKS * widened,
            dilation=self._settings.dilation * widened,
            safe=self._settings.safe_distance * widened,
            least=self._settings.least_distance * widened,
        )
        return gradient * mask if mask.any() else gradient


@torch.no_grad()
def undecided_mask(
    problem: Problem,
    images: Tensor,
    size: Sequence[int],
    *,
    ranks: int,
    dilation: int,
    safe: float,
    least: float,
) -> Tensor:
    """Return a mask of the latents around candidates whose presence decides about the count.

    Args:
        problem: its critics that detect are evaluated; one that counts without detecting has no candidates.
        images: RGB float (1, 3, H, W) in [0, 1].
        size: (h, w) of the latents.
        ranks: candidates on each side of the target count, in the order of their scores.
        dilation: latent cells by which boxes are enlarged.
        safe: distance from the threshold on the right side, in safe distances, at which a candidate is decided.
        least: distance below the threshold, in safe distances, of the weakest candidate.

    Returns:
        float (h, w) of 0 and 1.
    """
    height, width = size
    scale_y, scale_x = height / images.shape[-2], width / images.shape[-1]
    mask = torch.zeros(height, width, device=images.device)
    names = [target.object_name for target in problem.targets]
    for critic in problem.critics:
        if not critic.detects:
            continue
        for target, candidates in zip(problem.targets, critic.candidates(images, names), strict=True):
            distance = (candidates.logits[0] - critic.threshold_logit) / critic.safe_distance
            there = candidates.kept[0] & (distance > -least)
            boxes, distance = candidates.boxes[0][there], distance[there]
            first = max(0, target.target_count - ranks)
            for rank in range(first, min(len(boxes), target.target_count + ranks)):
                wanted = rank < target.target_count
                if (distance[rank] if wanted else -distance[rank]) > safe:
                    continue
                left, top, right, bottom = boxes[rank].tolist()
                rows = slice(max(0, round(top * scale_y) - dilation), max(0, round(bottom * scale_y) + dilation + 1))
                columns = slice(max(0, round(left * scale_x) - dilation), max(0, round(right * scale_x) + dilation + 1))
                mask[rows, columns] = 1
    return mask


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
