"""Validation of a token while it is learned: counts of images of seeds that nothing is trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from countgen.prompts import Target
from countgen.tokens.checkpoint import Validation
from countgen.tokens.settings import LearnSettings
from critics import Critic
from critics.losses import LOSSES

FIRST_VALIDATION_SEED = 2**30
"""The first seed of validation."""


@torch.no_grad()
def validate(
    critics: Sequence[Critic],
    targets: Sequence[Target],
    settings: LearnSettings,
    render: Callable[[str, Target, Sequence[int]], Tensor],
    step: int,
) -> Validation:
    """Return the metrics of `settings.validation_pictures` images, by all critics.

    Args:
        critics: those of the training.
        targets: object classes, in turn, with the token's count.
        settings: of the training; its templates are taken in turn.
        render: images of a template, a target and seeds, with what is validated.
        step: number of steps before the validation.
    """
    by_target = torch.arange(settings.validation_pictures).tensor_split(len(targets))
    right, losses, counts = [], [], []
    for target, numbers in zip(targets, by_target, strict=True):
        for template, part in zip(settings.templates, numbers.tensor_split(len(settings.templates)), strict=True):
            seeds = [FIRST_VALIDATION_SEED + number for number in part.tolist()]
            if not seeds:
                continue
            images = render(template, target, seeds)
            for critic in critics:
                evaluation = critic.evaluate(images, {target.object_name: target.target_count}, LOSSES[settings.loss])
                right += (evaluation.counts[:, 0] == target.target_count).tolist()
                losses += evaluation.loss.tolist()
                counts += evaluation.counts[:, 0].tolist()
    means = (sum(values) / len(values) for values in (right, losses, counts))
    return Validation(step, *means)
