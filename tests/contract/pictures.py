"""Rendered pictures, and untrained detectors brought to life on them."""

from __future__ import annotations

import math
import re
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from countgen.benchmarks.miniature.world import Scene, load_sprites, render, sample_scenes
from countgen.critics import Critic
from countgen.miniature.world import OBJECT_NAMES

CLASSES = ("apple", "dog", "car", "ball")
"""Object classes of the untrained detectors."""
SIDE = 128

load_sprites = cache(load_sprites)


@cache
def rendered(number: int, seed: int = 0, max_count: int = 10) -> Tensor:
    """Pictures of apples, and of other objects beside them."""
    rng = np.random.default_rng(seed)
    others = sample_scenes(number, rng, max_count=max_count, two_kinds=0)
    scenes = [
        Scene(((0, int(rng.integers(0, max_count // 2))), *scene.groups[:1]), scene.background) for scene in others
    ]
    return render(scenes, load_sprites(), torch.Generator().manual_seed(seed)).images


def only_apples(counts: tuple[int, ...], seed: int = 0) -> Tensor:
    """One picture per count, with nothing but apples."""
    scenes = [Scene(((OBJECT_NAMES.index("apple"), count),), index % 6) for index, count in enumerate(counts)]
    return render(scenes, load_sprites(), torch.Generator().manual_seed(seed)).images


def networks_in(critic: Critic) -> nn.ModuleList:
    """Every network inside a critic."""
    network = getattr(critic, "model", getattr(critic, "detector", None))
    if isinstance(network, nn.Module):
        return nn.ModuleList([network])
    inner = (value for value in vars(critic).values() if isinstance(value, Critic))
    return nn.ModuleList(network for critic in inner for network in networks_in(critic))


def enliven(critic: Critic, sharpen: str | None = None, factor: float = 30.0) -> Critic:
    """Give an untrained detector scores that differ from place to place, some of them above its threshold.

    Normalisation layers learn the statistics of pictures; the threshold goes where a few proposals of the
    middle picture lie above it.
    """
    (module,) = networks_in(critic)
    images = rendered(8)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if sharpen and re.search(sharpen, name):
                parameter *= factor
        norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
        for layer in norms:
            layer.momentum = None
            layer.reset_running_stats()
            layer.train()
        critic.propose(images, CLASSES[:1])
        for layer in norms:
            layer.eval()
        (candidates,) = critic.candidates(images, CLASSES[:1])
        ranked = candidates.logits.masked_fill(~candidates.kept, -math.inf).sort(dim=1, descending=True).values
        rank = min(4, int(candidates.kept.sum(1).min()) - 2)
        threshold = float((ranked[:, rank] + ranked[:, rank + 1]).div(2).median().sigmoid())
    critic.configure(threshold=threshold, steepness=1.0)
    return critic
