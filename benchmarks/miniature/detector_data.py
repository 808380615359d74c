"""Labelled training images for the detectors: rendered, after a VAE round trip, and in the generator's style."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countgen.benchmarks.miniature.generator import Generator, decode, encode_images
from countgen.benchmarks.miniature.training import autocast
from countgen.benchmarks.miniature.world import (
    IMAGE_SIZE,
    Rendered,
    Scene,
    caption,
    load_sprites,
    render,
    sample_scenes,
)
from countgen.miniature.world import OBJECT_NAMES

MOST_OBJECTS = 20
KINDS = ("rendered", "round trip", "styled")
CHUNK = {"cuda": 256, "cpu": 3}
"""The number of images rendered together, by device type.

Rendering costs as much per image as the image with most objects in its chunk, so that small chunks are faster on a CPU.
"""
STYLED_TIMESTEPS = (250, 650)
"""The range of timesteps from which a noised scene keeps its layout (inspected by eye; at 750, objects change)."""
OBJECT_CHANGE = 0.13
PLACE_CHANGE = 0.27
LATENT_NOISE = 0.25
ATTACK_STRENGTH = (0.02, 0.10)
ATTACK_LIMIT = 0.6


class Batch(NamedTuple):
    """A batch of labelled images.

    Attributes:
        images: (B, 3, H, W) in [0, 1].
        boxes, labels, present: as in `world.Rendered`, padded to 20 objects.
        latents: (B, 4, 32, 32) scaled VAE latents of approximately these images, before augmentation.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    present: Tensor
    latents: Tensor

    def counts(self) -> Tensor:
        """Return the true count of every object, int64 (B, 24)."""
        counts = torch.zeros(len(self.labels), len(OBJECT_NAMES), dtype=torch.int64, device=self.labels.device)
        return counts.scatter_add_(1, self.labels, self.present.long())


class SceneSource:
    """A source of labelled images.

    Images in the generator's style are scenes whose latents are noised to an intermediate timestep and denoised in one
    step with the scene's caption. They keep their layout, so that the scene's labels stay valid, and show typical
    artefacts of the generator, such as merged or half-formed objects. If an image changed so much that a label is
    doubtful, the VAE round trip of the scene replaces it; this is decided without a detector. Without a generator, no
    image is in its style.
    """

    def __init__(self, vae: nn.Module, generator: Generator | None, seed: int, device: str) -> None:
        self.vae, self.generator, self.device = vae, generator, device
        self.rng = np.random.default_rng(seed)
        self.noise = torch.Generator(device).manual_seed(seed)
        self.sprites = load_sprites(device)

    def _normal_like(self, tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, device=self.device, generator=self.noise)

    @torch.no_grad()
    def make(self, number: int, *, counts: tuple[int, int] | None = None, kind: str = "mixed") -> Batch:
        """Make labelled images of one of `KINDS`, or "mixed" with a third of each, with a range of counts.

        Without a range, they are sampled as for training: 0 to 20 objects, few more often, with distractors and noise.
        """
        scenes: list[Scene] = []
        while len(scenes) < number:
            if counts is None:
                even = bool(self.rng.random() < 0.5)
                sampled = sample_scenes(16, self.rng, max_count=16, uniform=even, empty_up_to=MOST_OBJECTS)
            else:
                sampled = sample_scenes(16, self.rng, max_count=max(counts[1], 1), uniform=True, empty_up_to=counts[1])
                sampled = [scene for scene in sampled if counts[0] <= scene.total <= counts[1]]
            scenes += sampled
        scenes = scenes[:number]
        captions = [caption(scene, self.rng) for scene in scenes]
        crowding = 1.0 if counts or self.rng.random() < 0.6 else float(self.rng.uniform(0.85, 1.2))
        rendered = render(scenes, self.sprites, self.noise, distractors=counts is None, crowding=crowding)
        with autocast(self.device):
            latents = encode_images(self.vae, rendered.images)
            passed = images = decode(self.vae, latents).clamp(0, 1)
            if counts is None:
                strength = LATENT_NOISE * torch.rand(number, 1, 1, 1, device=self.device, generator=self.noise)
                images = decode(self.vae, latents + strength * self._normal_like(latents)).clamp(0, 1)
        turn = torch.arange(number, device=self.device) % len(KINDS)
        wanted = turn if kind == "mixed" else torch.full_like(turn, KINDS.index(kind))
        if self.generator is not None and kind in ("mixed", "styled"):
            styled, styled_latents = self._styled(latents, captions)
            use = ((wanted == 2) & _same_layout(styled, passed, rendered))[:, None, None, None]
            images, latents = torch.where(use, styled, images), torch.where(use, styled_latents, latents)
        images = torch.where((wanted == 0)[:, None, None, None], rendered.images, images)
        room = MOST_OBJECTS - rendered.labels.shape[1]
        boxes = F.pad(rendered.boxes, (0, 0, 0, room))
        labels, present = F.pad(rendered.labels, (0, room)), F.pad(rendered.present, (0, room))
        return Batch(images, boxes, labels, present, latents)

    def _styled(self, latents: Tensor, captions: list[str]) -> tuple[Tensor, Tensor]:
        assert self.generator is not None
        timesteps = torch.randint(*STYLED_TIMESTEPS, (len(latents),), device=self.device, generator=self.noise)
        with autocast(self.device):
            conditioning = self.generator.encode(self.generator.tokenize(captions).to(self.device))
            noised, _ = self.generator.add_noise(latents, self._normal_like(latents), timesteps)
            denoised = self.generator.denoise(noised, timesteps, conditioning)
            return decode(self.vae, denoised).clamp(0, 1), denoised.float()


def _same_layout(styled: Tensor, original: Tensor, rendered: Rendered) -> Tensor:
    """Return whether every object and the rest of the image changed by less than the limits, bool (B,)."""
    change = F.avg_pool2d((styled - original).abs().mean(1, keepdim=True), 5, 1, 2)[:, 0].float()
    pixels = torch.arange(IMAGE_SIZE, device=change.device) + 0.5
    x1, y1, x2, y2 = (edge[..., None] for edge in rendered.boxes.unbind(-1))
    across = ((pixels > x1) & (pixels < x2) & rendered.present[..., None]).float()
    down = ((pixels > y1) & (pixels < y2)).float()
    area = (across.sum(-1) * down.sum(-1)).clamp(min=1)
    of_object = torch.einsum("bhw,bnh,bnw->bn", change, down, across) / area
    return (of_object.amax(1) < OBJECT_CHANGE) & (change.amax((1, 2)) < PLACE_CHANGE)


class Pool:
    """A pool of images on the device, from which batches are sampled and whose chunks are replaced in turn."""

    def __init__(self, source: SceneSource, size: int) -> None:
        self.source = source
        self.chunk = min(CHUNK[torch.device(source.device).type], size)
        chunks = [self._packed() for _ in range(max(1, size // self.chunk))]
        self.parts = [torch.cat(column) for column in zip(*chunks, strict=True)]
        self.next = 0

    def _packed(self) -> tuple[Tensor, ...]:
        batch = self.source.make(self.chunk)
        images = (batch.images * 255).round().to(torch.uint8)
        return images, batch.boxes, batch.labels, batch.present, batch.latents.half()

    def refresh(self) -> None:
        """Replace the oldest chunk."""
        for part, fresh in zip(self.parts, self._packed(), strict=True):
            part[self.next : self.next + self.chunk] = fresh
        self.next = (self.next + self.chunk) % len(self.parts[0])

    def draw(self, number: int) -> Batch:
        """Return a batch of images sampled from the pool, without augmentation."""
        rows = torch.randint(len(self.parts[0]), (number,), device=self.parts[0].device)
        images, boxes, labels, present, latents = (part[rows] for part in self.parts)
        return Batch(images.float() / 255, boxes, labels, present, latents.float())


def degrade(batch: Batch, sizes: tuple[int, ...] = ()) -> Batch:
    """Augment a batch: mirror half of the images, change colours, blur some, add noise to some, at times resize all."""
    images, boxes = batch.images, batch.boxes

    def chance(*shape: int) -> Tensor:
        return torch.rand(len(images), *shape, device=images.device)

    mirror = chance() < 0.5
    images = torch.where(mirror[:, None, None, None], images.flip(-1), images)
    x1, y1, x2, y2 = boxes.unbind(-1)
    flipped = torch.stack([IMAGE_SIZE - x2, y1, IMAGE_SIZE - x1, y2], -1)
    boxes = torch.where(mirror[:, None, None], flipped, boxes)
    blur = chance(1, 1, 1) * (chance(1, 1, 1) < 0.35)
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    images = images + blur * (F.avg_pool2d(padded, 3, 1) - images)
    images = images * (1 + 0.3 * (chance(3, 1, 1) - 0.5)) + 0.16 * (chance(3, 1, 1) - 0.5)
    middle = images.mean((1, 2, 3), keepdim=True)
    images = middle + (images - middle) * (0.8 + 0.4 * chance(1, 1, 1))
    rough = 0.05 * chance(1, 1, 1) * (chance(1, 1, 1) < 0.4)
    images = (images + rough * torch.randn_like(images)).clamp(0, 1)
    if sizes and float(torch.rand(())) < 0.25:
        size = sizes[int(torch.randint(len(sizes), ()))]
        images = F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
        boxes = boxes * (size / IMAGE_SIZE)
    return Batch(images, boxes, batch.labels, batch.present, batch.latents)


def attack(batch: Batch, vae: nn.Module, loss: Callable[[Batch], Tensor]) -> Batch:
    """Attack a batch: change the latents along the gradient that increases the detector's loss.

    Optimisation against a critic finds such images. The change is one step along the normalised gradient, of a strength
    sampled per image. It is limited in every element and in its mean square, so that no object appears or disappears
    and the labels stay valid.
    """
    start = batch.latents + 0.02 * torch.randn_like(batch.latents)
    latents = start.clone().requires_grad_()
    images = decode(vae, latents).clamp(0, 1)
    value = loss(Batch(images, batch.boxes, batch.labels, batch.present, batch.latents))
    (gradient,) = torch.autograd.grad(value, latents)
    gradient = gradient / gradient.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-12)
    low, high = ATTACK_STRENGTH
    strength = low + (high - low) * torch.rand(len(start), 1, 1, 1, device=start.device)
    moved = start + (strength * gradient).clamp(-ATTACK_LIMIT, ATTACK_LIMIT)
    with torch.no_grad():
        images = decode(vae, moved).clamp(0, 1)
    return Batch(images, batch.boxes, batch.labels, batch.present, moved)
