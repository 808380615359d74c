"""Rendered scenes whose count is known, and the ways in which a generator's images are worse than they."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from benchmarks.studies.cases import SEEDS
from countgen import miniature
from countgen.miniature.world import BACKGROUNDS, OBJECT_NAMES, Scene, load_sprites, render

COUNTS = range(21)
CONDITIONS = ("plain", "overlap", "blur", "VAE")
CROWDING = 1.35
"""Size of the objects of overlapping scenes, relative to those that fit beside each other."""
BLUR = 0.8
"""Standard deviation in pixels."""
AT_ONCE = 25


@dataclass(frozen=True)
class KnownScenes:
    """Images with the same number of objects, each of a kind of its own.

    Attributes:
        condition: one of `CONDITIONS`.
        object_names: what is asked for in each; other objects may stand beside it.
        count: how many there are.
        images: (B, 3, 128, 128) in [0, 1].
    """

    condition: str
    object_names: tuple[str, ...]
    count: int
    images: Tensor


def known_scenes(per_count: int, purpose: str) -> Iterator[KnownScenes]:
    """Scenes of 0 to 20 objects under every condition; every third has one to three others beside them.

    Args:
        per_count: scenes of each count, before the conditions.
        purpose: a key of `SEEDS`; what is chosen on the scenes of one is never reported on them.
    """
    rng = np.random.default_rng((SEEDS[purpose], 3))
    generator = torch.Generator().manual_seed(SEEDS[purpose] + 3)
    sprites, through_vae = load_sprites(), vae_round_trip()
    for count in COUNTS:
        for begin in range(0, per_count, AT_ONCE):
            kinds = rng.integers(len(OBJECT_NAMES), size=min(AT_ONCE, per_count - begin)).tolist()
            scenes = [_scene(kind, count, rng) for kind in kinds]
            plain = render(scenes, sprites, generator).images
            shown = {
                "plain": plain,
                "overlap": render(scenes, sprites, generator, crowding=CROWDING).images,
                "blur": gaussian_blur(plain, [5, 5], [BLUR, BLUR]),
                "VAE": through_vae(plain),
            }
            for condition in CONDITIONS:
                yield KnownScenes(condition, tuple(OBJECT_NAMES[kind] for kind in kinds), count, shown[condition])


def _scene(kind: int, count: int, rng: np.random.Generator) -> Scene:
    groups = [(kind, count)]
    if rng.random() < 1 / 3:
        other = (kind + int(rng.integers(1, len(OBJECT_NAMES)))) % len(OBJECT_NAMES)
        groups.append((other, int(rng.integers(1, 4))))
    return Scene(tuple(groups), int(rng.integers(len(BACKGROUNDS))))


def vae_round_trip() -> Callable[[Tensor], Tensor]:
    """Encoding and decoding by the embedded generator's own VAE."""
    from diffusers import AutoencoderKL

    folder = miniature.FOLDER / "mini-sdxl-turbo" / "vae"
    vae: Any = AutoencoderKL.from_pretrained(folder, use_safetensors=True, torch_dtype=torch.float32).eval()

    @torch.no_grad()
    def passed(images: Tensor) -> Tensor:
        return vae.decode(vae.encode(images * 2 - 1).latent_dist.mode()).sample.div(2).add(0.5).clamp(0, 1)

    return passed
