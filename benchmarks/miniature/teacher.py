"""Train the multi-step teacher: v-prediction on captioned scenes, U-Net and text encoders jointly."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from countgen.benchmarks.miniature.generator import SHIPPED, Generator, encode_images, export, read_generator, solver
from countgen.benchmarks.miniature.training import StageSettings, autocast, train
from countgen.benchmarks.miniature.world import Scene, caption, is_held_out, load_sprites, render, sample_scenes
from countgen.miniature.world import OBJECT_NAMES

LEARNING_RATE = 1e-3
BATCH_SIZE = 512
SCENES = 100_000
EMPTY_SHARE = 0.1
"""The fraction of captions that are replaced by the empty one, for classifier-free guidance."""
FOCUS, FOCUS_SHARE = (500, 1000), 0.4
"""A range of timesteps that determine the layout, and the fraction of the timesteps that are sampled from it."""
COUNTED_SHARE = 0.8
"""The fraction of captions that state the count."""
RENDERED_AT_ONCE = 256
UNSPECIFIED = -1
"""The target count of an object in the scene whose count the caption does not state."""


def teacher(settings: StageSettings) -> None:
    """Train the teacher; the product is the stock folder `pipeline` in the run's folder.

    `init` is a pipeline folder with the initial weights, which are random otherwise; the VAE is the folder's or the
    shipped one.
    """
    device = settings.device
    generator, vae = read_generator(settings.init or SHIPPED, device, random=settings.init is None)
    generator.train().requires_grad_(True)
    pool, pool_tokens = scene_pool(generator, vae, settings.number or SCENES, settings.seed, device)
    empty = generator.tokenize([""]).to(device)
    batch_size = settings.batch_size or BATCH_SIZE

    def loss(iteration: int, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        rows = torch.randint(len(pool), (batch_size,), device=device)
        latents = pool[rows].float()
        tokens = torch.where(torch.rand(batch_size, 1, 1, device=device) < EMPTY_SHARE, empty, pool_tokens[rows])
        uniform = torch.randint(1000, (batch_size,), device=device)
        focused = torch.randint(*FOCUS, (batch_size,), device=device)
        timesteps = torch.where(torch.rand(batch_size, device=device) < FOCUS_SHARE, focused, uniform)
        noised, target = generator.add_noise(latents, torch.randn_like(latents), timesteps)
        with autocast(device):
            predicted = generator.predict(noised, timesteps, generator.encode(tokens))
        return F.mse_loss(predicted, target), {}

    average = train(settings, generator, loss, learning_rate=LEARNING_RATE)
    export(average, vae, settings.out / "pipeline", one_step=False)


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
            targets[row, kind] = count if counted and not is_held_out(kind, count) else UNSPECIFIED
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


@torch.no_grad()
def integrate(
    generator: Generator,
    noise: Tensor,
    tokens: Tensor,
    *,
    steps: int,
    guidance_scale: float,
    start: tuple[Tensor, int],
) -> Tensor:
    """Sample latents, float32 (B, 4, 32, 32), by solving the probability-flow ODE with classifier-free guidance.

    There is one guided evaluation for each step. The ODE begins at the timestep of `start`, from its clean latents with
    the noise added (Meng et al. 2022, SDEdit).
    """
    scheduler, (clean, first) = solver(generator), start
    timesteps = [round(first * (steps - step) / steps) for step in range(steps)]
    scheduler.set_timesteps(timesteps=timesteps, device=noise.device)
    latents, _ = generator.add_noise(clean, noise.float(), torch.full((len(noise),), first, device=noise.device))
    scheduler.set_begin_index(0)
    empty = generator.tokenize([""]).to(noise.device).expand(len(noise), -1, -1)
    conditioning = generator.encode(torch.cat([tokens, empty]))
    for timestep in scheduler.timesteps:
        both = torch.cat([latents, latents])
        conditional, unconditional = generator.predict(both, timestep.expand(len(both)), conditioning).chunk(2)
        predicted = unconditional + guidance_scale * (conditional - unconditional)
        latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
    return latents
