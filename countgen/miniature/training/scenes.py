"""Captioned scenes for the training of generators, rendered and encoded once into a pool of latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from countgen.miniature.training.generator import LATENT_SHAPE, Generator, decode, encode_images
from countgen.miniature.training.loop import autocast
from countgen.miniature.world import (
    HELD_OUT_OBJECTS,
    HELD_OUT_PAIRS,
    OBJECT_NAMES,
    Scene,
    caption,
    load_sprites,
    render,
    sample_scenes,
)

UNIFORM_SHARE = 0.35
"""The fraction of scenes whose count is sampled uniformly, so that high counts are frequent enough."""
COUNTED_SHARE = 0.8
"""The fraction of captions that state the count."""
RENDERED_AT_ONCE = 256
UNSPECIFIED = -1
"""The target count of an object in the scene whose count the caption does not state."""


@dataclass(frozen=True)
class ScenePool:
    """Scenes encoded for the denoisers.

    Attributes:
        latents: float16 (N, 4, 32, 32), scaled.
        tokens: int16 (N, 2, 32), see `Generator.tokenize`.
    """

    latents: Tensor
    tokens: Tensor

    def draw(self, number: int) -> tuple[Tensor, Tensor]:
        """Return random float32 latents and their tokens."""
        rows = torch.randint(len(self.latents), (number,), device=self.latents.device)
        return self.latents[rows].float(), self.tokens[rows]


def sample_captioned(
    number: int,
    rng: np.random.Generator,
    *,
    max_count: int = 15,
    two_kinds: float = 0.22,
    uniform_share: float = UNIFORM_SHARE,
) -> tuple[list[Scene], list[str], np.ndarray]:
    """Sample scenes and their captions, and return them with the counts that the captions specify.

    Args:
        number: number of scenes.
        rng: random number generator.
        max_count: largest number of objects in a scene.
        two_kinds: fraction of the scenes with two or more objects that have two object classes.
        uniform_share: fraction of the scenes whose count is sampled uniformly.

    Returns:
        scenes, captions, and target counts, int64 (number, 24), with `UNSPECIFIED` for objects in the scene whose count
        the caption does not state.
    """
    even = round(number * uniform_share)
    scenes = sample_scenes(number - even, rng, max_count=max_count, two_kinds=two_kinds)
    scenes += sample_scenes(even, rng, max_count=max_count, two_kinds=two_kinds, uniform=True)
    rng.shuffle(scenes)
    captions, targets = [], np.zeros((number, len(OBJECT_NAMES)), np.int64)
    for row, scene in enumerate(scenes):
        counted = bool(rng.random() < COUNTED_SHARE)
        captions.append(caption(scene, rng, float(counted)))
        for kind, count in scene.groups:
            name = OBJECT_NAMES[kind]
            stated = counted and name not in HELD_OUT_OBJECTS and (name, count) not in HELD_OUT_PAIRS
            targets[row, kind] = count if stated else UNSPECIFIED
    return scenes, captions, targets


@torch.no_grad()
def scene_pool(generator: Generator, vae: nn.Module, number: int, seed: int, device: str) -> ScenePool:
    """Render, encode and tokenise `number` scenes on the device, 8 KiB each."""
    rng = np.random.default_rng(seed)
    noise = torch.Generator(device).manual_seed(seed)
    sprites = load_sprites(device)
    latents, tokens = [], []
    for begin in range(0, number, RENDERED_AT_ONCE):
        scenes, captions, _ = sample_captioned(min(RENDERED_AT_ONCE, number - begin), rng)
        images = render(scenes, sprites, noise).images
        with autocast(device):
            latents.append(encode_images(vae, images).half())
        tokens.append(generator.tokenize(captions))
    return ScenePool(torch.cat(latents), torch.cat(tokens).to(device))


def sample_prompts(number: int) -> list[str]:
    """Return fixed prompts for sample images, with counts 1 to 15 in turn over all objects."""
    from countgen.miniature.world import NUMBER_WORDS, PLURALS

    prompts = []
    for index in range(number):
        count, kind = index % 15 + 1, index * 7 % len(OBJECT_NAMES)
        things = OBJECT_NAMES[kind] if count == 1 else PLURALS[kind]
        prompts.append(f"a photo of {NUMBER_WORDS[count]} {things}")
    return prompts


def sampler(
    generator: Generator,
    vae: nn.Module,
    device: str,
    batch_size: int,
    generate: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Callable[[Path], None]:
    """Return a function that saves images of fixed prompts, a batch of at most 32, to a path.

    `generate` takes noise and tokens; without it the generator does one step.
    """
    number = min(32, batch_size)
    noise = torch.randn(number, *LATENT_SHAPE, generator=torch.Generator().manual_seed(0)).to(device)
    tokens = generator.tokenize(sample_prompts(number)).to(device)

    def sample(path: Path) -> None:
        with torch.no_grad(), autocast(device):
            latents = generate(noise, tokens) if generate else generator.one_step(noise, generator.encode(tokens))
        save_grid(vae, latents, path)

    return sample


def save_grid(vae: Any, latents: Sequence[Tensor] | Tensor, path: Path) -> None:
    """Decode latents and save them as one PNG grid, eight in a row."""
    from torchvision.utils import save_image

    with torch.no_grad():
        images = torch.cat([decode(vae, part[None]) for part in latents])
    save_image(images.clamp(0, 1).cpu(), path, nrow=8)
