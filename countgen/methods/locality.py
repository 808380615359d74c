"""Where in the latents the count is undecided: masks that keep a gradient from the rest of the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from countgen.critics import Candidates, Critic
from countgen.methods.problem import Problem


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
    problem: Problem,
    images: Tensor,
    size: Sequence[int],
    *,
    ranks: int,
    dilation: int,
    safe: float,
    least: float,
) -> Tensor:
    """Return masks of the latents around candidates whose presence changes the count.

    Args:
        problem: its critics that detect are evaluated; critics without boxes are skipped.
        images: RGB float (B, 3, H, W) in [0, 1].
        size: (h, w) of the latents.
        ranks: candidates on each side of the target count, in the order of their scores.
        dilation: latent cells by which boxes are enlarged.
        safe: distance from the threshold on the right side, in safe distances, at which a candidate is decided.
        least: distance below the threshold, in safe distances, of the weakest candidate.

    Returns:
        float (B, 1, h, w) of 0 and 1.
    """
    height, width = size
    scale = images.new_tensor([width / images.shape[-1], height / images.shape[-2]]).repeat(2)
    masks = torch.zeros(len(images), 1, height, width, device=images.device)
    names = [target.object_name for target in problem.targets]
    for critic in problem.critics:
        if not critic.detects:
            continue
        for target, candidates in zip(problem.targets, critic.candidates(images, names), strict=True):
            for row in range(len(images)):
                boxes = _undecided(critic, candidates, row, target.target_count, ranks, safe, least)
                for left, top, right, bottom in (boxes * scale).round().int().tolist():
                    rows = slice(max(0, top - dilation), max(0, bottom + dilation + 1))
                    columns = slice(max(0, left - dilation), max(0, right + dilation + 1))
                    masks[row, 0, rows, columns] = 1
    return masks


def _undecided(
    critic: Critic, candidates: Candidates, row: int, target_count: int, ranks: int, safe: float, least: float
) -> Tensor:
    """Return the boxes of one image's candidates near the target count that are not on the right side by `safe`."""
    distance = (candidates.logits[row] - critic.threshold_logit) / critic.safe_distance
    there = candidates.kept[row] & (distance > -least)
    boxes, distance = candidates.boxes[row][there], distance[there]
    near = slice(max(0, target_count - ranks), target_count + ranks)
    wanted = torch.arange(len(boxes), device=boxes.device)[near] < target_count
    right_by = torch.where(wanted, distance[near], -distance[near])
    return boxes[near][right_by <= safe]
