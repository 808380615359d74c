"""Captioned scenes for the training of generators, rendered and encoded once into a pool of latents."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from countgen.benchmarks.miniature.generator import Generator, encode_images
from countgen.benchmarks.miniature.training import autocast
from countgen.benchmarks.miniature.world import Scene, caption, load_sprites, render, sample_scenes
from countgen.miniature.world import HELD_OUT_OBJECTS, HELD_OUT_PAIRS, OBJECT_NAMES

COUNTED_SHARE = 0.8
"""The fraction of captions that state the count."""
RENDERED_AT_ONCE = 256
UNSPECIFIED = -1
"""The target count of an object in the scene whose count the caption does not state."""


def sample_captioned(
    number: int, rng: np.random.Generator, *, max_count: int = 15, two_kinds: float = 0.22, uniform_share: float = 0.35
) -> tuple[list[Scene], list[str], Tensor]:
    """Sample scenes, of which `uniform_share` have a uniform count, and their captions.

    Returns:
        scenes, captions, and the stated counts, int64 (number, 24), with `UNSPECIFIED` for unstated ones.
    """
    uniform = round(number * uniform_share)
    scenes = sample_scenes(number - uniform, rng, max_count=max_count, two_kinds=two_kinds)
    scenes += sample_scenes(uniform, rng, max_count=max_count, two_kinds=two_kinds, uniform=True)
    rng.shuffle(scenes)
    captions, targets = [], torch.zeros(number, len(OBJECT_NAMES), dtype=torch.int64)
    for row, scene in enumerate(scenes):
        counted = bool(rng.random() < COUNTED_SHARE)
        captions.append(caption(scene, rng, float(counted)))
        for kind, count in scene.groups:
            name = OBJECT_NAMES[kind]
            stated = counted and name not in HELD_OUT_OBJECTS and (name, count) not in HELD_OUT_PAIRS
            targets[row, kind] = count if stated else UNSPECIFIED
    return scenes, captions, targets


@torch.no_grad()
def scene_pool(generator: Generator, vae: nn.Module, number: int, seed: int, device: str) -> tuple[Tensor, Tensor]:
    """Render and encode scenes, 8 KiB each; return float16 latents (N, 4, 32, 32) and tokens (N, 2, 32)."""
    rng, noise = np.random.default_rng(seed), torch.Generator(device).manual_seed(seed)
    sprites, latents, tokens = load_sprites(device), [], []
    for begin in range(0, number, RENDERED_AT_ONCE):
        scenes, captions, _ = sample_captioned(min(RENDERED_AT_ONCE, number - begin), rng)
        with autocast(device):
            latents.append(encode_images(vae, render(scenes, sprites, noise).images).half())
        tokens.append(generator.tokenize(captions))
    return torch.cat(latents), torch.cat(tokens).to(device)
