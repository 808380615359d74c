"""Train the multi-step teacher: v-prediction on rendered scenes, denoiser and text encoders jointly."""

from __future__ import annotations

import copy
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from countgen.miniature.training.export import export, place
from countgen.miniature.training.generator import FAMILIES, Family, Generator, read_generator, read_vae
from countgen.miniature.training.initial_weights import fresh_generator
from countgen.miniature.training.loop import StageSettings, adamw, autocast, is_finished, train, update_average
from countgen.miniature.training.ode import integrate
from countgen.miniature.training.scenes import sampler, scene_pool

LEARNING_RATE = 6e-4
BATCH_SIZE = 512
SCENES = 100_000
EMPTY_SHARE = 0.1
FOCUS_SHARE = 0.4
MAX_GRAD_NORM = 1.0


def draw_timesteps(family: Family, number: int, device: torch.device) -> Tensor:
    """Sample timesteps, int64 (number,), uniformly from 0 to 999, except for `FOCUS_SHARE` from `family.focus`."""
    uniform = torch.randint(1000, (number,), device=device)
    focused = torch.randint(*family.focus, (number,), device=device)
    return torch.where(torch.rand(number, device=device) < FOCUS_SHARE, focused, uniform)


def denoising_loss(generator: Generator, latents: Tensor, tokens: Tensor, timesteps: Tensor) -> Tensor:
    """Return the mean squared error of the v-prediction at given timesteps, a scalar with gradient."""
    noised, target = generator.add_noise(latents, torch.randn_like(latents), timesteps)
    with autocast(latents.device.type):
        predicted = generator.predict(noised, timesteps, generator.encode(tokens))
    return F.mse_loss(predicted, target)


def _teacher(family: Family, settings: StageSettings) -> None:
    device = settings.device
    if is_finished(settings, settings.out / "pipeline"):
        return
    torch.manual_seed(settings.seed)
    if settings.fresh:
        generator, vae = fresh_generator(family)
    else:
        generator, vae = read_generator(family, settings.init or family.folder)
    if settings.data:
        vae = read_vae(settings.data)
    place(generator, device).train()
    place(vae, device)
    average = copy.deepcopy(generator).eval().requires_grad_(False)
    pool = scene_pool(generator, vae, settings.number or SCENES, settings.seed, device)
    empty = generator.tokenize([""]).to(device)
    optimizer = adamw([(generator, settings.learning_rate or LEARNING_RATE)])
    if settings.compile:
        generator.denoiser.compile()
    batch_size = settings.batch_size or BATCH_SIZE

    generate = partial(integrate, average, steps=family.ode_steps, guidance_scale=family.guidance_scale)

    def step(iteration: int, progress: float) -> dict[str, Tensor]:
        latents, tokens = pool.draw(batch_size)
        drop = torch.rand(batch_size, device=latents.device) < EMPTY_SHARE
        tokens = torch.where(drop[:, None, None], empty, tokens)
        loss = denoising_loss(generator, latents, tokens, draw_timesteps(family, batch_size, latents.device))
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(generator.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        update_average(average, generator, iteration)
        return {"loss": loss.detach(), "grad_norm": norm}

    train(
        settings,
        {"generator": generator},
        [optimizer],
        step,
        sample=sampler(average, vae, device, batch_size, generate),
        ema={"generator": average},
    )
    export(average, vae, settings.out / "pipeline", one_step=False)


def teacher(settings: StageSettings) -> None:
    """Train the U-Net teacher; the product is the stock folder `pipeline` in the run's folder.

    `init` is the pipeline folder with the initial weights, or `RANDOM`; the shipped one-step student is the default.
    `data` is the component folder of a VAE that replaces that pipeline's, also in the export.
    """
    _teacher(FAMILIES["unet"], settings)


def pixart_teacher(settings: StageSettings) -> None:
    """Train the PixArt teacher, with the settings of `teacher`."""
    _teacher(FAMILIES["pixart"], settings)
