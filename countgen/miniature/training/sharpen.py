"""Sharpen a one-step student: its teacher finishes the student's own images, and the student learns from the result.

A target is near the image that the student generates already, so that one step can learn it; a pair of the teacher's
own ODE asks for another layout, of which a small student learns the blurred mean. Images whose count is wrong or
unclear are left out. On a CPU the stage computes in bfloat16 where that is native.
"""

from __future__ import annotations

import copy
from collections import deque

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from countgen.miniature import FOLDER
from countgen.miniature.training.critic import read_critic, relative_distance
from countgen.miniature.training.detector_accuracy import detector_counter
from countgen.miniature.training.discriminator import NOISE_LEVELS
from countgen.miniature.training.export import export, place
from countgen.miniature.training.generator import FAMILIES, LATENT_SHAPE, Family, Generator, decode, read_generator
from countgen.miniature.training.loop import (
    StageSettings,
    adamw,
    autocast,
    data_seed,
    is_finished,
    train,
    update_average,
)
from countgen.miniature.training.ode import integrate
from countgen.miniature.training.pairs import right_counts
from countgen.miniature.training.scenes import sample_captioned, sampler
from countgen.miniature.training.teacher import MAX_GRAD_NORM

LEARNING_RATE = 1e-4
BATCH_SIZE = 16
FRESH_EVERY = 4
"""Iterations between two batches of new targets; about half of a batch is kept, so that each is used eight times."""
TARGETS = 2048
FIRST_TARGETS = 128
MAX_COUNT, TWO_KINDS, UNIFORM_SHARE = 12, 1 / 3, 0.8
"""High counts and two object classes are more frequent in the captions than in other stages; no count is new."""
STEPS, GUIDANCE_SCALE = 4, 2.5
CLEAR = (0.25, 0.65)
"""An image is clear if the critic counts the same at its own threshold and at these."""
FEATURE_WEIGHT = 2.0
LATER_STEP_EVERY = 3
"""One iteration of this many trains a later step, so that two to four steps stay useful."""
AVERAGE_DECAY = 0.995


class Targets:
    """The latest finished images with a clear and right count, with their noise and tokens.

    Counts that a caption does not state may be any from 1.

    Args:
        student: generator whose images are finished.
        teacher: multi-step generator that finishes them.
        vae: their decoder.
        number: images per batch.
        seed: seed of captions and noise.
    """

    def __init__(self, student: Generator, teacher: Generator, vae: nn.Module, number: int, seed: int) -> None:
        self._device = str(teacher.alphas_cumprod.device)
        self._student, self._teacher, self._vae, self._number = student, teacher, vae, number
        critic = read_critic(FOLDER / "critic", self._device)
        self._count, self._thresholds = detector_counter(critic), [critic.settings.threshold, *CLEAR]
        self._captions = np.random.default_rng(seed)
        # Another stream than that of the losses, which `train` seeds with the same number.
        self._noise = torch.Generator(self._device).manual_seed(int(self._captions.integers(2**63 - 1)))
        self._rows: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=TARGETS)
        self.kept = 0.0

    def __len__(self) -> int:
        return len(self._rows)

    @torch.no_grad()
    def add(self) -> None:
        """Let the teacher finish a batch of new images, and keep those whose count is clear and right.

        It tries the others once more, from a higher timestep, which changes their layout.
        """
        _, captions, counts_stated = sample_captioned(
            self._number, self._captions, max_count=MAX_COUNT, two_kinds=TWO_KINDS, uniform_share=UNIFORM_SHARE
        )
        stated = torch.from_numpy(counts_stated).to(self._device)
        tokens = self._student.tokenize(captions).to(self._device)
        noise = torch.randn(self._number, *LATENT_SHAPE, generator=self._noise, device=self._device)
        with autocast(self._device, on_cpu=True):
            own = self._student.one_step(noise, self._student.encode(tokens)).float()
        found = 0
        for timesteps in (self._student.family.finished_from, self._student.family.laid_out_from):
            first = int(self._captions.integers(*timesteps))
            with autocast(self._device, on_cpu=True):
                latents = integrate(
                    self._teacher, noise, tokens, steps=STEPS, guidance_scale=GUIDANCE_SCALE, start=(own, first)
                )
                images = decode(self._vae, latents).clamp(0, 1)
            counts, fewest, most = self._count(images, self._thresholds)
            kept = right_counts(stated, counts) & ((stated == 0) | (counts > 0)).all(1)
            kept &= (fewest == most).all(1) & latents.isfinite().all((1, 2, 3))
            self._rows.extend(zip(noise[kept], latents[kept], tokens[kept], strict=True))
            found += int(kept.sum())
            noise, tokens, stated, own = (rows[~kept] for rows in (noise, tokens, stated, own))
        self.kept = found / self._number

    def fill(self) -> None:
        """Add batches until there are `FIRST_TARGETS`.

        Raises:
            ValueError: hardly any image has a clear and right count.
        """
        for _ in range(FIRST_TARGETS):
            if len(self) >= FIRST_TARGETS:
                return
            self.add()
        if len(self) < FIRST_TARGETS:
            raise ValueError(
                f"of {FIRST_TARGETS} batches of {self._number} only {len(self)} images have a clear and right count: "
                "give a larger --batch-size, and as --data the teacher of this student, with the same VAE"
            )

    def draw(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return noise, latents and tokens of random targets."""
        rows = [self._rows[row] for row in torch.randint(len(self._rows), (number,))]
        noise, latents, tokens = (torch.stack(parts) for parts in zip(*rows, strict=True))
        return noise, latents, tokens


def feature_distance(teacher: Generator, latents: Tensor, expected: Tensor, tokens: Tensor) -> Tensor:
    """Return the mean absolute difference of a teacher's features relative to their mean, with gradient to `latents`.

    Both are noised alike to a random timestep each; no detector takes part.
    """
    timesteps = torch.randint(*NOISE_LEVELS, (len(latents),), device=latents.device)
    noise = torch.randn_like(latents)
    with torch.no_grad():
        conditioning = teacher.encode(tokens)
        targets = teacher.features(teacher.add_noise(expected, noise, timesteps)[0], timesteps, conditioning)
    found = teacher.features(teacher.add_noise(latents, noise, timesteps)[0], timesteps, conditioning)
    return relative_distance(found, targets)


def later_step(student: Generator, noise: Tensor, tokens: Tensor) -> Tensor:
    """Return the student's clean latents of a later step: its own one-step image, noised anew and denoised.

    The timesteps are random between the least and the greatest of `Family.denoising_timesteps`; the gradient passes
    through the later step only.
    """
    conditioning = student.encode(tokens)
    with torch.no_grad():
        own = student.one_step(noise, conditioning)
    choices = student.family.denoising_timesteps
    timesteps = torch.randint(min(choices), max(choices) + 1, (len(noise),), device=noise.device)
    noised, _ = student.add_noise(own, torch.randn_like(own), timesteps)
    return student.denoise(noised, timesteps, conditioning)


def _sharpen(family: Family, settings: StageSettings) -> None:
    device = settings.device
    if settings.data is None:
        raise ValueError("sharpening needs a teacher: give --data, its pipeline folder")
    if is_finished(settings, settings.out / "pipeline"):
        return
    teacher, _ = read_generator(family, settings.data)
    if teacher.scheduler_config.get("algorithm_type") != "dpmsolver++":
        raise ValueError(
            f"{settings.data} is no multi-step teacher, its scheduler is not DPM-Solver++; give the pipeline "
            "folder that the stage teacher wrote"
        )
    student, vae = read_generator(family, settings.init or family.folder)
    place(teacher.eval().requires_grad_(False), device)
    place(vae, device)
    vae.to(memory_format=torch.channels_last)  # decodes twice as fast on a CPU
    student.text_encoders.requires_grad_(False)  # tokens and embeddings made with them stay valid
    place(student, device).train()
    average, initial = (copy.deepcopy(student).eval().requires_grad_(False) for _ in range(2))
    batch_size = settings.batch_size or BATCH_SIZE
    # Not of the student as it is trained, which would drift with its own images.
    targets = Targets(initial, teacher, vae, batch_size, data_seed(settings))
    optimizer = adamw([(student.denoiser, settings.learning_rate or LEARNING_RATE)])
    if settings.compile:
        student.denoiser.compile()

    def step(iteration: int, progress: float) -> dict[str, float | Tensor]:
        if not len(targets):
            targets.fill()
        elif iteration % FRESH_EVERY == 0:
            targets.add()
        noise, expected, tokens = targets.draw(batch_size)
        later = bool(family.denoising_timesteps) and iteration % LATER_STEP_EVERY == LATER_STEP_EVERY - 1
        with autocast(device, on_cpu=True):
            latents = later_step(student, noise, tokens) if later else student.one_step(noise, student.encode(tokens))
            features = feature_distance(teacher, latents, expected, tokens)
        distance = F.l1_loss(latents, expected)
        loss = distance + 0.5 * F.mse_loss(latents, expected) + FEATURE_WEIGHT * features
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        update_average(average, student, iteration, AVERAGE_DECAY)
        if later:
            return {"later_step": distance.detach(), "later_features": features.detach()}
        parts = {"latents": distance.detach(), "features": features.detach()}
        return {"loss": loss.detach(), **parts, "kept": targets.kept, "targets": float(len(targets))}

    train(
        settings,
        {"generator": student},
        [optimizer],
        step,
        sample=sampler(average, vae, device, batch_size),
        ema={"generator": average},
    )
    export(average, vae, settings.out / "pipeline", one_step=True)


def sharpen(settings: StageSettings) -> None:
    """Sharpen the U-Net student `init`, by default the shipped one; `data` is its teacher's pipeline folder.

    A resumed run starts with new targets. The text encoders do not change.
    """
    _sharpen(FAMILIES["unet"], settings)


def pixart_sharpen(settings: StageSettings) -> None:
    """Sharpen the PixArt student, with the settings of `sharpen`."""
    _sharpen(FAMILIES["pixart"], settings)
