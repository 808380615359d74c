"""Training of the autoencoder that all generators share."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from countgen.miniature.training.export import export_vae, place
from countgen.miniature.training.generator import FAMILIES, read_vae
from countgen.miniature.training.loop import StageSettings, adamw, autocast, is_finished, train, update_average
from countgen.miniature.training.scenes import sample_captioned
from countgen.miniature.world import load_sprites, render

LEARNING_RATE = 1.5e-3
BATCH_SIZE = 96
SCENES = 12_000
KL_WEIGHT = 2e-4


def _edges(images: Tensor) -> tuple[Tensor, Tensor]:
    return images.diff(dim=-1), images.diff(dim=-2)


def reconstruction_loss(images: Tensor, expected: Tensor) -> Tensor:
    """Return the sum of L1, L1 of edges, L1 after pooling by four, and half the mean squared error, a scalar."""
    edges = sum(
        (F.l1_loss(a, b) for a, b in zip(_edges(images), _edges(expected), strict=True)),
        torch.zeros((), device=images.device),
    )
    pooled = F.l1_loss(F.avg_pool2d(images, 4), F.avg_pool2d(expected, 4))
    return F.l1_loss(images, expected) + edges + pooled + 0.5 * F.mse_loss(images, expected)


@torch.no_grad()
def _training_images(number: int, seed: int, device: str) -> Tensor:
    """Render training images, uint8 (number, 3, 128, 128), on the device."""
    import numpy as np

    rng, noise = np.random.default_rng(seed), torch.Generator(device).manual_seed(seed)
    sprites, found = load_sprites(device), []
    for begin in range(0, number, 128):
        scenes = sample_captioned(min(128, number - begin), rng)[0]
        found.append((render(scenes, sprites, noise).images * 255).round().byte())
    return torch.cat(found)


def vae(settings: StageSettings) -> None:
    """Train the autoencoder from `init`, a component folder, or random weights; the product is the folder `vae`."""
    from diffusers import AutoencoderKL

    device = settings.device
    if is_finished(settings, settings.out / "vae"):
        return
    torch.manual_seed(settings.seed)
    if settings.init and not settings.fresh:
        model: Any = read_vae(settings.init).requires_grad_(True)
    else:
        config = AutoencoderKL.load_config(FAMILIES["unet"].folder / "vae")
        model = AutoencoderKL.from_config(config)
    place(model, device).train()
    average = copy.deepcopy(model).eval().requires_grad_(False)
    pool = _training_images(settings.number or SCENES, settings.seed, device)
    optimizer = adamw([(model, settings.learning_rate or LEARNING_RATE)])
    batch_size = settings.batch_size or BATCH_SIZE

    def step(iteration: int, progress: float) -> dict[str, Tensor]:
        images = pool[torch.randint(len(pool), (batch_size,), device=device)].float() / 255
        with autocast(device):
            posterior = model.encode(images * 2 - 1).latent_dist
            restored = (model.decode(posterior.sample()).sample.float() + 1) / 2
            divergence = posterior.kl().float().mean() / posterior.mean[0].numel()
        loss = reconstruction_loss(restored, images) + KL_WEIGHT * divergence
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        update_average(average, model, iteration)
        psnr = -10 * F.mse_loss(restored.detach(), images).log10()
        return {"loss": loss.detach(), "psnr": psnr}

    def sample(path: Path) -> None:
        from torchvision.utils import save_image

        with torch.no_grad():
            images = pool[:8].float() / 255
            restored = (average.decode(average.encode(images * 2 - 1).latent_dist.mean).sample + 1) / 2
        save_image(torch.cat([images, restored]).clamp(0, 1).cpu(), path, nrow=8)

    train(settings, {"vae": model}, [optimizer], step, sample=sample, ema={"vae": average})
    with torch.no_grad():
        images = pool[:256].float() / 255
        spread = torch.cat([average.encode(part * 2 - 1).latent_dist.mean for part in images.split(32)]).std()
    export_vae(average, round(1 / float(spread), 6), settings.out / "vae")
