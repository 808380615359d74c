"""Latents that move only where the count is undecided: masks that keep a gradient from the rest of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from countgen.critics import Candidates, Critic
from countgen.methods.problem import Problem
from countgen.methods.refinement import RefinementSettings
from countgen.methods.settings import setting

UNDECIDED_RANKS = 3
"""Candidates on each side of the target count, in the order of their scores, that may be added or removed."""

PHASES = ("edit", "edit, low frequencies too", "edit, mask widened")
"""Phases of gradient steps, by level of the constraints; each names what it allows in addition to the one before."""


@dataclass(frozen=True)
class LocalSettings(RefinementSettings):
    """Settings of a descent that keeps most of the image. They were chosen on tuning seeds, see docs/results.md."""

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


class ConfinedLatents(nn.Module):
    """Latents that move only where the count is undecided, and without the lowest frequencies.

    Args:
        problem: its critics give the boxes of objects.
        noise: float (1, C, h, w), the start.
        settings: of the mask and the cut-off.
        level: to which the constraints are loosened, 0 to 2.
    """

    def __init__(self, problem: Problem, noise: Tensor, settings: LocalSettings, level: int) -> None:
        super().__init__()
        self._problem = problem
        self._noise = noise.detach().float()
        self._settings = settings
        self._widened = 2 if level == len(PHASES) - 1 else 1
        cutoff = settings.frequency_cutoff
        self.cutoff = cutoff if cutoff < 0 else cutoff >> level
        self.displacement = nn.Parameter(torch.zeros_like(self._noise))

    def forward(self) -> Tensor:
        """Return the latents (1, C, h, w)."""
        # Not in the graph: Adam would make full steps of what a projected gradient has outside the mask.
        with torch.no_grad():
            self.displacement.copy_(high_pass(self.displacement, self.cutoff))
        return self._noise + self.displacement

    def local(self, gradient: Tensor, images: Tensor) -> Tensor:
        """Return the gradient where the count of the images is undecided, and 0 elsewhere."""
        masks = undecided_masks(self._problem, images, self._noise.shape[-2:], self._settings, self._widened)
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


def detector_of(problem: Problem) -> Critic | None:
    """Return the first critic with boxes; None if there is none."""
    return next((critic for critic in problem.critics if critic.detects), None)


def local_gradient(gradient: Tensor, masks: Tensor) -> Tensor:
    """Return each latent's gradient inside its mask, and 0 elsewhere; unchanged where the mask is empty.

    An image without an undecided candidate has nothing to build on, so objects may appear anywhere.

    Args:
        gradient: float (B, C, h, w).
        masks: (B, 1, h, w) of 0 and 1.
    """
    somewhere = masks.flatten(1).any(1).view(-1, 1, 1, 1)
    return gradient * torch.where(somewhere, masks, 1.0)


@torch.no_grad()
def undecided_masks(
    problem: Problem, images: Tensor, size: Sequence[int], settings: LocalSettings, widened: int = 1
) -> Tensor:
    """Return masks of the latents around candidates whose presence changes the count.

    Args:
        problem: its critics that detect are evaluated; critics without boxes are skipped.
        images: RGB float (B, 3, H, W) in [0, 1].
        size: (h, w) of the latents.
        settings: which candidates are undecided, and by how much their boxes are enlarged.
        widened: factor on the distances, on the enlargement and on `UNDECIDED_RANKS`.

    Returns:
        float (B, 1, h, w) of 0 and 1.
    """
    height, width = size
    scale = images.new_tensor([width / images.shape[-1], height / images.shape[-2]]).repeat(2)
    masks = torch.zeros(len(images), 1, height, width, device=images.device)
    names = [target.object_name for target in problem.targets]
    dilation = settings.dilation * widened
    for critic in problem.critics:
        if not critic.detects:
            continue
        for target, candidates in zip(problem.targets, critic.candidates(images, names), strict=True):
            for row in range(len(images)):
                boxes = _undecided(critic, candidates, row, target.target_count, settings, widened)
                for left, top, right, bottom in (boxes * scale).round().int().tolist():
                    rows = slice(max(0, top - dilation), max(0, bottom + dilation + 1))
                    columns = slice(max(0, left - dilation), max(0, right + dilation + 1))
                    masks[row, 0, rows, columns] = 1
    return masks


def _undecided(
    critic: Critic, candidates: Candidates, row: int, target_count: int, settings: LocalSettings, widened: int
) -> Tensor:
    """Return the boxes of one image's candidates near the target count that are not safely on the right side."""
    distance = (candidates.logits[row] - critic.threshold_logit) / (critic.safe_distance * widened)
    there = candidates.kept[row] & (distance > -settings.least_distance)
    boxes, distance = candidates.boxes[row][there], distance[there]
    ranks = UNDECIDED_RANKS * widened
    near = slice(max(0, target_count - ranks), target_count + ranks)
    wanted = torch.arange(len(boxes), device=boxes.device)[near] < target_count
    right_by = torch.where(wanted, distance[near], -distance[near])
    return boxes[near][right_by <= settings.safe_distance]
