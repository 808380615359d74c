"""Distil a teacher into a one-step student: regression on its ODE pairs, and a GAN against rendered scenes."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from countgen.miniature import FOLDER
from countgen.miniature.training.critic import feature_distance, read_critic
from countgen.miniature.training.discriminator import Discriminator
from countgen.miniature.training.export import export, place
from countgen.miniature.training.generator import FAMILIES, Family, decode, read_generator
from countgen.miniature.training.loop import StageSettings, adamw, autocast, is_finished, train, update_average
from countgen.miniature.training.pairs import TEACHER, read_pairs
from countgen.miniature.training.scenes import sampler, scene_pool
from countgen.miniature.training.teacher import MAX_GRAD_NORM, denoising_loss

LEARNING_RATE = 5e-4
TEXT_LEARNING_RATE_SHARE = 0.2
DISCRIMINATOR_LEARNING_RATE = 5e-4
BATCH_SIZE = 256
SCENES = 40_000
DECODED_SHARE = 0.5
"""The fraction of a batch that is decoded for the losses on pixels and features, which cost more than the denoiser."""
FEATURE_WEIGHT = 2.0
GAN_SHARE = 0.7
"""The norm of the adversarial gradient at the latents, relative to that of the regression loss."""
DISCRIMINATOR_FROM, GAN_FROM = 0.3, 0.35
DENOISING_EVERY = 4
AVERAGE_DECAY = 0.998


def _student(family: Family, settings: StageSettings) -> None:
    device = settings.device
    if settings.data is None:
        raise ValueError("a student is trained on pairs: give --data, the folder that the stage for pairs wrote")
    if is_finished(settings, settings.out / "pipeline"):
        return
    torch.manual_seed(settings.seed)
    teacher, vae = read_generator(family, settings.data / TEACHER)
    student = copy.deepcopy(teacher)
    if settings.init:
        # The text encoders stay those of the teacher, which were trained last.
        student.denoiser = read_generator(family, settings.init)[0].denoiser
    place(student, device).train()
    place(teacher.eval().requires_grad_(False), device)
    place(vae, device)
    average = copy.deepcopy(student).eval().requires_grad_(False)
    network = read_critic(FOLDER / "critic", device).model
    discriminator = Discriminator(teacher).to(device)
    all_noise, all_latents, all_tokens = read_pairs(settings.data, student, device)
    pool = scene_pool(student, vae, settings.number or SCENES, settings.seed, device)
    rate = settings.learning_rate or LEARNING_RATE
    optimizer = adamw([(student.denoiser, rate), (student.text_encoders, rate * TEXT_LEARNING_RATE_SHARE)])
    adversary = adamw([(discriminator, DISCRIMINATOR_LEARNING_RATE)], betas=(0.5, 0.99))
    if settings.compile:
        student.denoiser.compile()
    batch_size = settings.batch_size or BATCH_SIZE
    decoded = max(1, int(batch_size * DECODED_SHARE))

    def update() -> None:
        nn.utils.clip_grad_norm_(student.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad()

    def regression(latents: Tensor, expected: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        distance = F.l1_loss(latents, expected)
        with autocast(device):
            image = decode(vae, latents[:decoded])
            with torch.no_grad():
                expected_image = decode(vae, expected[:decoded])
            features = feature_distance(network, image, expected_image)
        pixels = F.l1_loss(image, expected_image)
        loss = distance + 0.5 * F.mse_loss(latents, expected) + pixels + FEATURE_WEIGHT * features
        return loss, {"latents": distance.detach(), "pixels": pixels.detach(), "features": features.detach()}

    def adversarial(latents: Tensor, tokens: Tensor, progress: float) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Train the discriminator on one batch, and return the adversarial gradient at the latents after `GAN_FROM`."""
        with torch.no_grad(), autocast(device):
            real, real_tokens = pool.draw(batch_size)
            real_features = discriminator.features(teacher, real, real_tokens)
        with autocast(device):
            fake_features = discriminator.features(teacher, latents, tokens)
            detached = [feature.detach() for feature in fake_features]
            loss = discriminator.hinge(real_features, detached)
        loss.backward()
        adversary.step()
        adversary.zero_grad()
        if progress < GAN_FROM:
            return None, {"discriminator": loss.detach()}
        with autocast(device):
            generator_loss = -discriminator.score(fake_features)
        gradient = torch.autograd.grad(generator_loss, latents)[0]
        return gradient, {"discriminator": loss.detach(), "fooled": generator_loss.detach()}

    def step(iteration: int, progress: float) -> dict[str, Tensor]:
        if family.denoising_timesteps and iteration % DENOISING_EVERY == DENOISING_EVERY - 1:
            real, tokens = pool.draw(batch_size)
            choices = torch.tensor(family.denoising_timesteps, device=device)
            timesteps = choices[torch.randint(len(choices), (batch_size,), device=device)]
            loss = denoising_loss(student, real, tokens, timesteps)
            loss.backward()
            update()
            update_average(average, student, iteration, AVERAGE_DECAY)
            return {"denoising": loss.detach()}
        rows = torch.randint(len(all_noise), (batch_size,), device=device)
        tokens = all_tokens[rows]
        with autocast(device):
            sample = student.one_step(all_noise[rows].float(), student.encode(tokens))
        latents = sample.detach().requires_grad_()
        loss, metrics = regression(latents, all_latents[rows].float())
        gradient = torch.autograd.grad(loss, latents)[0]
        if progress >= DISCRIMINATOR_FROM:
            adversarial_gradient, more = adversarial(latents, tokens, progress)
            metrics |= more
            if adversarial_gradient is not None:
                share = GAN_SHARE * gradient.norm() / adversarial_gradient.norm().clamp(min=1e-12)
                gradient = gradient + adversarial_gradient * share
        sample.backward(gradient)
        update()
        update_average(average, student, iteration, AVERAGE_DECAY)
        return {"loss": loss.detach(), **metrics}

    train(
        settings,
        {"generator": student, "discriminator": discriminator},
        [optimizer, adversary],
        step,
        sample=sampler(average, vae, device, batch_size),
        ema={"generator": average},
    )
    export(average, vae, settings.out / "pipeline", one_step=True)


def student(settings: StageSettings) -> None:
    """Distil the U-Net teacher; `data` is the pairs' folder, `init` a pipeline to start the denoiser from."""
    _student(FAMILIES["unet"], settings)


def pixart_student(settings: StageSettings) -> None:
    """Distil the PixArt teacher; `data` is the pairs' folder, `init` a pipeline to start the denoiser from."""
    _student(FAMILIES["pixart"], settings)
