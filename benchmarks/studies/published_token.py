"""The published recipe of a count token, as its authors run it: one token, one text encoder, one object, one image.

Source: Zafar et al. 2024 (arXiv 2408.11721): "a photo of some seven apples", where the vector of "some" is learned by
AdamW at 0.01 for at most 50 iterations with a patience of 15, the best kept. The loss is |sum of density / scale - N| +
5 (1 - similarity of image and prompt). The scale is that of a calibrated map ("static"), or such that the value is a
detector's count ("dynamic"). Two things differ: the real word stays as it is, which the authors overwrite, and a
detector's class confidence stands in for CLIP's similarity, which knows nothing of 128 pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from countgen.backbones import Backbone, PromptEmbeds
from countgen.models import Models, load_critic
from countgen.prompts import Target
from countgen.prompts.number_words import number_word
from countgen.prompts.plurals import counted
from countgen.tokens.textual_inversion import encoders_of, injected
from countgen.tokens.trainer import class_confidence
from critics.detectors.density import DensityCritic
from critics.dynamic_scale import DynamicScaleCritic
from critics.losses import LOSSES

PLACEHOLDER = "<some>"
ENCODER = "clip_l"
LEARNING_RATE = 0.01
MAX_STEPS = 50
PATIENCE = 15
SEMANTIC_WEIGHT = 5.0

Vectors = dict[str, Tensor]


def learn(models: Models, target: Target, seed: int, *, dynamic: bool, max_steps: int = MAX_STEPS) -> Vectors:
    """Return the vectors of one token, trained on one image; the detector is the first critic."""
    backbone, detector = models.backbone, models.critics[0]
    counter = load_critic("miniature-density", backbone.device)
    assert isinstance(counter, DensityCritic)
    critic = DynamicScaleCritic(detector, counter) if dynamic else counter
    semantic = class_confidence(detector)
    vectors = {key: encoder.vectors_of("some", 1, backbone) for key, encoder in encoders_of(backbone).items()}
    learned = vectors[ENCODER].requires_grad_(True)
    optimizer = torch.optim.AdamW([learned], lr=LEARNING_RATE)
    latents = backbone.initial_latents([seed])
    best, lowest, waited = learned.detach().clone(), math.inf, 0
    for _ in range(max_steps):
        images = backbone.render(latents, encode(backbone, target, vectors), [seed])
        evaluation = critic.evaluate(images, {target.object_name: target.target_count}, LOSSES["l1"])
        loss = evaluation.loss.sum() + SEMANTIC_WEIGHT * (1 - semantic(images, target)).sum()
        if loss.item() < lowest:
            best, lowest, waited = learned.detach().clone(), loss.item(), 0
        else:
            waited += 1
        if waited == PATIENCE:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {**vectors, ENCODER: best}


def encode(backbone: Backbone, target: Target, vectors: Vectors) -> PromptEmbeds:
    """Return the embeddings of the recipe's prompt, with its token."""
    objects = counted(target.object_name, target.target_count)
    with injected(backbone, {PLACEHOLDER: vectors}) as read:
        return read(f"a photo of {PLACEHOLDER} {number_word(target.target_count)} {objects}")
