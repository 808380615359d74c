"""Sharpen a one-step student: its teacher finishes the student's own images, and the student learns from the result.

A target is near the image that the student generates already, so that one step can learn it; the teacher's own image
from the same noise has another layout, of which a small student learns the blurred mean. Images whose count is wrong or
unclear are left out. On a CPU the stage computes in bfloat16 where that is native.
"""

from __future__ import annotations

import copy
from collections import deque

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from countgen.benchmarks.miniature.detector_accuracy import counts_at
from countgen.benchmarks.miniature.generator import LATENT_SHAPE, SHIPPED, Generator, decode, export, read_generator
from countgen.benchmarks.miniature.teacher import UNSPECIFIED, integrate, sample_captioned
from countgen.benchmarks.miniature.training import StageSettings, autocast, train
from countgen.miniature import load_detector

LEARNING_RATE = 1e-4
BATCH_SIZE = 16
FRESH_EVERY = 4
"""Iterations between two batches of new targets; about half of a batch is kept, so that each is used eight times."""
TARGETS = 2048
FIRST_TARGETS = 128
MAX_COUNT, TWO_KINDS, UNIFORM_SHARE = 12, 1 / 3, 0.8
"""High counts and two object classes are more frequent in the captions than in other stages; no count is new."""
STEPS, GUIDANCE_SCALE = 4, 2.5
FINISHED_FROM, LAID_OUT_FROM = (600, 850), (850, 950)
"""Ranges of timesteps from which the teacher finishes an image, without and with a change of layout."""
CLEAR = (0.25, 0.65)
"""An image is clear if the critic counts the same at its own threshold and at these."""
NOISE_LEVELS = (20, 600)
"""The range of timesteps at which features are compared; low ones keep details, high ones only layout."""
FEATURE_WEIGHT = 2.0
LATER_STEP_EVERY, LATER_STEPS = 3, (249, 750)
"""One iteration of this many trains a later step, from a timestep in this range: two to four steps stay useful."""


class Targets:
    """The latest images of a student, finished by its teacher, with a clear and right count; their noise and tokens.

    Counts that a caption does not state may be any from 1. A batch has `number` images, before the choice.
    """

    def __init__(self, student: Generator, teacher: Generator, vae: object, number: int, seed: int) -> None:
        self._device = str(teacher.alphas_cumprod.device)
        self._student, self._teacher, self._vae, self._number = student, teacher, vae, number
        self._critic = load_detector("miniature-yolo", self._device)
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
        _, captions, targets = sample_captioned(
            self._number, self._captions, max_count=MAX_COUNT, two_kinds=TWO_KINDS, uniform_share=UNIFORM_SHARE
        )
        targets, tokens = targets.to(self._device), self._student.tokenize(captions).to(self._device)
        noise = torch.randn(self._number, *LATENT_SHAPE, generator=self._noise, device=self._device)
        kept = 0
        for timesteps in (FINISHED_FROM, LAID_OUT_FROM):
            with autocast(self._device, on_cpu=True):
                own = self._student.one_step(noise, self._student.encode(tokens)).float()
                start = (own, int(self._captions.integers(*timesteps)))
                latents = integrate(
                    self._teacher, noise, tokens, steps=STEPS, guidance_scale=GUIDANCE_SCALE, start=start
                )
                images = decode(self._vae, latents).clamp(0, 1)
            right = right_and_clear(targets, counts_at(self._critic, images, (self._critic.settings.threshold, *CLEAR)))
            right &= latents.isfinite().all((1, 2, 3))
            self._rows.extend(zip(noise[right], latents[right], tokens[right], strict=True))
            kept += int(right.sum())
            noise, tokens, targets = noise[~right], tokens[~right], targets[~right]
        self.kept = kept / self._number

    def fill(self) -> None:
        """Add batches until there are `FIRST_TARGETS`.

        Raises:
            ValueError: hardly any image has a clear and right count.
        """
        for _ in range(FIRST_TARGETS):
            self.add()
            if len(self) >= FIRST_TARGETS:
                return
        raise ValueError(f"only {len(self)} images have a right count: give --data, the teacher of this student")

    def draw(self, number: int) -> list[Tensor]:
        """Return noise, latents and tokens of random targets."""
        rows = [self._rows[row] for row in torch.randint(len(self._rows), (number,))]
        return [torch.stack(column) for column in zip(*rows, strict=True)]


def right_and_clear(targets: Tensor, counts: Tensor) -> Tensor:
    """Return bool (B,): whether the counts (T, B, C), by threshold, are all the targets, and unstated ones above 0."""
    clear = (counts == counts[0]).all(0)
    return (clear & torch.where(targets == UNSPECIFIED, counts[0] > 0, counts[0] == targets)).all(1)


def feature_distance(teacher: Generator, latents: Tensor, expected: Tensor, tokens: Tensor) -> Tensor:
    """Return the mean absolute difference of a teacher's features relative to their mean, with gradient to `latents`.

    Both are noised alike to a random timestep each; no detector takes part.
    """
    timesteps = torch.randint(*NOISE_LEVELS, (len(latents),), device=latents.device)
    noise, conditioning = torch.randn_like(latents), teacher.encode(tokens)
    with torch.no_grad():
        targets = teacher.features(teacher.add_noise(expected, noise, timesteps)[0], timesteps, conditioning)
    features = teacher.features(teacher.add_noise(latents, noise, timesteps)[0], timesteps, conditioning)
    pairs = [(a.float(), b.float()) for a, b in zip(features, targets, strict=True)]
    return torch.stack([(a - b).abs().mean() / b.abs().mean() for a, b in pairs]).mean()


def later_step(student: Generator, noise: Tensor, tokens: Tensor) -> Tensor:
    """Return the student's clean latents of a later step: its own one-step image, noised anew and denoised.

    The gradient passes through the later step only.
    """
    conditioning = student.encode(tokens)
    with torch.no_grad():
        own = student.one_step(noise, conditioning)
    timesteps = torch.randint(*LATER_STEPS, (len(noise),), device=noise.device)
    noised, _ = student.add_noise(own, torch.randn_like(own), timesteps)
    return student.denoise(noised, timesteps, conditioning)


def sharpen(settings: StageSettings) -> None:
    """Sharpen the U-Net of the student `init`, by default the shipped one; `data` is its teacher's pipeline folder.

    The text encoders do not change. A resumed run starts with new targets.
    """
    device = settings.device
    if settings.data is None:
        raise ValueError("sharpening needs a teacher: give --data, its pipeline folder")
    teacher, _ = read_generator(settings.data, device)
    student, vae = read_generator(settings.init or SHIPPED, device)
    # Targets are images of the initial student; those of the trained student would drift with it.
    batch_size = settings.batch_size or BATCH_SIZE
    targets = Targets(copy.deepcopy(student), teacher, vae, batch_size, settings.data_seed())
    student.unet.train().requires_grad_(True)  # tokens and embeddings made with the text encoders stay valid

    def loss(iteration: int, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        if not len(targets):
            targets.fill()
        elif iteration % FRESH_EVERY == 0:
            targets.add()
        noise, expected, tokens = targets.draw(batch_size)
        later = iteration % LATER_STEP_EVERY == LATER_STEP_EVERY - 1
        with autocast(device, on_cpu=True):
            latents = later_step(student, noise, tokens) if later else student.one_step(noise, student.encode(tokens))
            features = feature_distance(teacher, latents, expected, tokens)
        distance = F.l1_loss(latents, expected)
        metrics = {"later_step" if later else "one_step": distance.detach(), "features": features.detach()}
        metrics["kept"] = torch.tensor(targets.kept)
        return distance + 0.5 * F.mse_loss(latents, expected) + FEATURE_WEIGHT * features, metrics

    average = train(settings, student, loss, learning_rate=LEARNING_RATE, decay=0.995)
    export(average, vae, settings.out / "pipeline", one_step=True)
