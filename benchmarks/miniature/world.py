"""The miniature world: 128x128 images of counted everyday objects, rendered in torch, with captions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from countgen.critics.vocabulary import plural
from countgen.miniature.world import BACKGROUNDS, HELD_OUT_OBJECTS, HELD_OUT_PAIRS, NUMBER_WORDS, OBJECT_NAMES

IMAGE_SIZE = 128
"""The height and width of every image, in pixels."""

OBJECTS_FOLDER = Path(__file__).parent / "objects"

_DRAWINGS = ("fluent", "noto")
_CAPTION_STARTS = ("a photo of ", "a photo of ", "a picture of ", "", "an image of ", "there are ")
_CANDIDATES = 48
_OUTSIDE = -999.0


@dataclass(frozen=True)
class Scene:
    """The content of an image; positions, sizes and drawings are sampled when it is rendered.

    Attributes:
        groups: (index into OBJECT_NAMES, count) for each object class.
        background: index into BACKGROUNDS.
    """

    groups: tuple[tuple[int, int], ...]
    background: int

    @property
    def total(self) -> int:
        """The number of objects of all classes."""
        return sum(count for _, count in self.groups)


@dataclass(frozen=True)
class Rendered:
    """Rendered images with labelled boxes.

    Attributes:
        images: (B, 3, 128, 128) RGB in [0, 1].
        boxes: (B, N, 4) pixel xyxy of each whole object, hidden parts included; undefined where not `present`.
        labels: int64 (B, N) index into OBJECT_NAMES.
        present: bool (B, N); scenes with fewer objects than N are padded.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    present: Tensor


def load_sprites(device: torch.device | str = "cpu") -> Tensor:
    """Load the drawings as textures for `render`.

    Returns:
        float32 (48, 2, 5, 64, 64): drawing (two of each object in turn); sharp, or softened for small sizes; channels
        RGB premultiplied by alpha, alpha, and a blurred alpha for the shadow.
    """
    paths = [OBJECTS_FOLDER / f"{name}_{drawing}.png" for name in OBJECT_NAMES for drawing in _DRAWINGS]
    pixels = np.stack([np.asarray(Image.open(path).convert("RGBA")) for path in paths])
    drawings = torch.from_numpy(pixels).float().div(255).permute(0, 3, 1, 2).to(device)
    alpha = drawings[:, 3:]
    sharp = torch.cat([drawings[:, :3] * alpha, alpha], 1)
    soft = F.interpolate(F.interpolate(sharp, size=32, mode="area"), size=64, mode="bilinear", align_corners=False)
    shadow = F.conv2d(alpha, torch.ones(1, 1, 9, 9, device=device) / 81, padding=4)
    both = torch.stack([sharp, soft], 1)
    return torch.cat([both, shadow[:, None].expand(-1, 2, -1, -1, -1)], 2)


def sample_scenes(
    number: int,
    rng: np.random.Generator,
    *,
    max_count: int = 15,
    two_kinds: float = 0.22,
    uniform: bool = False,
    empty_up_to: int | None = None,
) -> list[Scene]:
    """Sample scenes; small counts are more frequent, p(n) ~ 1 / (n + 2), unless `uniform`.

    A fraction `two_kinds` of the scenes with two or more objects has two object classes. With `empty_up_to`, 12 % of
    the scenes have a count sampled uniformly from 0 to this.
    """
    weights = 1 / (np.arange(1, max_count + 1) + 2.0)
    weights /= weights.sum()
    scenes = []
    for _ in range(number):
        if empty_up_to and rng.random() < 0.12:
            total = int(rng.integers(0, empty_up_to + 1))
        elif uniform:
            total = int(rng.integers(1, max_count + 1))
        else:
            total = 1 + int(rng.choice(max_count, p=weights))
        groups: tuple[tuple[int, int], ...]
        if total >= 2 and rng.random() < two_kinds:
            first, second = (int(kind) for kind in rng.choice(len(OBJECT_NAMES), 2, replace=False))
            share = int(rng.integers(1, total))
            groups = ((first, share), (second, total - share))
        else:
            groups = ((int(rng.integers(len(OBJECT_NAMES))), total),)
        scenes.append(Scene(groups, int(rng.integers(len(BACKGROUNDS)))))
    return scenes


def caption(scene: Scene, rng: np.random.Generator, counted_probability: float = 0.75) -> str:
    """Return a sampled caption of a scene, which states the counts with probability `counted_probability`.

    Counts of held-out objects and pairs, and counts above fifteen, are never stated.
    """
    counted = rng.random() < counted_probability
    phrases = []
    for kind, count in scene.groups:
        if counted and not is_held_out(kind, count) and count < len(NUMBER_WORDS):
            number = str(count) if rng.random() < 0.25 else NUMBER_WORDS[count]
            phrases.append(f"{number} {OBJECT_NAMES[kind] if count == 1 else plural(OBJECT_NAMES[kind])}")
        else:
            phrases.append(_uncounted(kind, count, rng))
    start = _CAPTION_STARTS[rng.integers(len(_CAPTION_STARTS))]
    place = BACKGROUNDS[scene.background] if rng.random() < 0.5 else ""
    return start + " and ".join(phrases) + place


def is_held_out(kind: int, count: int) -> bool:
    """Return whether captions never state this count of an object."""
    return OBJECT_NAMES[kind] in HELD_OUT_OBJECTS or (OBJECT_NAMES[kind], count) in HELD_OUT_PAIRS


def _uncounted(kind: int, count: int, rng: np.random.Generator) -> str:
    name, several = OBJECT_NAMES[kind], plural(OBJECT_NAMES[kind])
    if count == 0:
        return f"no {several}"
    if count == 1:
        return f"{'an' if name[0] in 'aeiou' else 'a'} {name}" if rng.random() < 0.5 else name
    chance = rng.random()
    if chance < 0.6:
        return several
    return f"some {several}" if chance < 0.8 else f"{'many' if count >= 6 else 'a few'} {several}"


@torch.no_grad()
def render(
    scenes: Sequence[Scene],
    sprites: Tensor,
    generator: torch.Generator | None = None,
    *,
    distractors: bool = False,
    crowding: float = 1.0,
) -> Rendered:
    """Render scenes: objects of similar size, with shadows, placed with little overlap up to about 20 objects.

    Images are rendered on the device of `sprites`, textures from `load_sprites`. `distractors` are blurred spots and
    flat rectangles that are not objects; `crowding` is a factor on the size of the objects.
    """
    device = sprites.device
    number = len(scenes)
    totals, labels, backgrounds = (part.to(device) for part in _tensors(scenes))

    def chance(*shape: int) -> Tensor:
        return torch.rand(*shape, device=device, generator=generator)

    centres, sizes, present = _layout(totals, generator, crowding)
    places = labels.shape[1]
    # Seven images in ten have the same drawing of each object throughout.
    same = chance(number, 1) < 0.7
    shared = (chance(number, 1) < 0.5).long().expand(number, places)
    drawing = torch.where(same, shared, (chance(number, places) < 0.5).long())
    textures = sprites[labels * 2 + drawing, (sizes < 36).long()].flatten(0, 1)
    angles = (chance(number, places) - 0.5) * 2 * math.radians(28)
    mirrored = torch.where(chance(number, places) < 0.5, -1.0, 1.0)

    shape = (number, places, -1, IMAGE_SIZE, IMAGE_SIZE)
    mask = present[..., None, None, None]
    grid = _sampling_grid(centres, sizes, angles, mirrored)
    objects = F.grid_sample(textures[:, :4], grid, align_corners=False).view(shape) * mask
    below = centres + torch.stack([sizes * 0.03, sizes * 0.09], -1)
    grid = _sampling_grid(below, sizes, angles, mirrored)
    shadows = F.grid_sample(textures[:, 4:], grid, align_corners=False).view(shape) * mask

    images = _background(backgrounds, generator)
    if distractors:
        images = _distract(images, generator)
    gain = 1 + 0.16 * (chance(number, places, 3, 1, 1) - 0.5)
    images = images * (1 - shadows.amax(1) * 0.32)
    for place in range(places):
        images = images * (1 - objects[:, place, 3:]) + (objects[:, place, :3] * gain[:, place]).clamp(max=1.0)
    images = (images * (0.92 + 0.16 * chance(number, 1, 1, 1))).clamp(0, 1)
    return Rendered(images, _boxes(objects[:, :, 3] > 0.25), labels, present)


def _tensors(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor, Tensor]:
    """Return totals (B,), padded object indices (B, N) with N >= 1, and backgrounds (B,)."""
    places = max(1, max(scene.total for scene in scenes))
    labels = torch.zeros(len(scenes), places, dtype=torch.int64)
    for row, scene in enumerate(scenes):
        kinds = [kind for kind, count in scene.groups for _ in range(count)]
        labels[row, : len(kinds)] = torch.tensor(kinds, dtype=torch.int64)
    totals = torch.tensor([scene.total for scene in scenes])
    return totals, labels, torch.tensor([scene.background for scene in scenes])


def _layout(totals: Tensor, generator: torch.Generator | None, crowding: float) -> tuple[Tensor, Tensor, Tensor]:
    """Sample centres (B, N, 2) and sizes (B, N) in pixels, and return them with the mask of present objects (B, N).

    Objects are placed one after the other: of 48 candidate centres the first without overlap is chosen, or else the one
    with the largest distance to other objects.
    """
    device, number = totals.device, len(totals)
    places = max(1, int(totals.max()))
    present = torch.arange(places, device=device)[None] < totals[:, None]
    largest = IMAGE_SIZE * torch.clamp(0.80 * crowding / torch.sqrt(totals.float() + 0.6), max=0.50)[:, None]
    base = largest * (0.72 + 0.28 * torch.rand(number, 1, device=device, generator=generator))
    spread = 0.85 + 0.3 * torch.rand(number, places, device=device, generator=generator)
    sizes = (base * spread).clamp(13, 62)
    centres = torch.full((number, places, 2), _OUTSIDE, device=device)
    rows = torch.arange(number, device=device)
    for place in range(places):
        size = sizes[:, place, None, None]
        candidates = torch.rand(number, _CANDIDATES, 2, device=device, generator=generator)
        candidates = size * 0.5 + 1 + candidates * (IMAGE_SIZE - size - 2)
        chosen = torch.zeros(number, dtype=torch.int64, device=device)
        if place:
            distance = (candidates[:, :, None] - centres[:, None, :place]).norm(dim=-1)
            room = (distance - 0.98 * 0.5 * (size + sizes[:, None, :place])).amin(-1)
            chosen = torch.where(room.amax(1) >= 0, (room >= 0).float().argmax(1), room.argmax(1))
        centres[:, place] = torch.where(present[:, place, None], candidates[rows, chosen], centres[:, place])
    return centres, sizes, present


def _sampling_grid(centres: Tensor, sizes: Tensor, angles: Tensor, mirrored: Tensor) -> Tensor:
    """Return the `grid_sample` grid (B * N, 128, 128, 2) that places textures at their centres, sizes and angles."""
    scale = IMAGE_SIZE / sizes
    cos, sin = angles.cos() * scale, angles.sin() * scale
    turn = torch.stack([torch.stack([cos * mirrored, sin * mirrored], -1), torch.stack([-sin, cos], -1)], -2)
    shift = -(turn @ (centres / IMAGE_SIZE * 2 - 1)[..., None])
    theta = torch.cat([turn, shift], -1).flatten(0, 1)
    return F.affine_grid(theta, [len(theta), 1, IMAGE_SIZE, IMAGE_SIZE], align_corners=False)


def _boxes(covered: Tensor) -> Tensor:
    """Return boxes (B, N, 4) xyxy around the covered pixels of bool (B, N, 128, 128)."""
    pixels = torch.arange(IMAGE_SIZE, device=covered.device).float()
    columns, rows = covered.any(-2), covered.any(-1)
    first = [torch.where(line, pixels, 999.0).amin(-1) for line in (columns, rows)]
    last = [torch.where(line, pixels + 1, -1.0).amax(-1) for line in (columns, rows)]
    return torch.stack([*first, *last], -1)


def _smooth_noise(number: int, channels: int, cells: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
    noise = torch.randn(number, channels, cells, cells, device=like.device, generator=generator)
    return F.interpolate(noise, size=IMAGE_SIZE, mode="bicubic", align_corners=False)


def _background(kinds: Tensor, generator: torch.Generator | None) -> Tensor:
    """Render backgrounds (B, 3, 128, 128) in [0, 1]; every image computes all six and selects its own."""
    device, number = kinds.device, len(kinds)

    def chance(channels: int) -> Tensor:
        return torch.rand(number, channels, 1, 1, device=device, generator=generator)

    def colour(*rgb: float) -> Tensor:
        return torch.tensor(rgb, device=device).view(1, 3, 1, 1)

    down = torch.linspace(0, 1, IMAGE_SIZE, device=device).view(1, 1, -1, 1)
    across = down.view(1, 1, 1, -1)
    angle = chance(1) * 2 * math.pi
    ramp = (across - 0.5) * angle.cos() + (down - 0.5) * angle.sin()
    plain = 0.70 + 0.22 * chance(3) + ramp * 0.22 * (chance(3) - 0.3)
    horizon = 0.12 + 0.22 * chance(1)
    planks = 10 + 14 * chance(1)
    tint = 0.08 * (chance(3) - 0.5)
    grain = torch.sin(down * planks * 6.283 + 2.5 * _smooth_noise(number, 1, 4, kinds, generator))
    wood = colour(0.66, 0.46, 0.29) + tint + 0.035 * grain * colour(1.0, 0.8, 0.6) + 0.03 * (down - 0.5)
    wall = 0.80 + 0.15 * (chance(3) - 0.4)
    table = wall + torch.sigmoid((down - horizon) * 90) * (wood - wall)
    coarse = _smooth_noise(number, 1, 8, kinds, generator)
    fine = _smooth_noise(number, 1, 40, kinds, generator)
    grass = colour(0.40, 0.62, 0.27) + 0.05 * (chance(3) - 0.5)
    grass = grass + 0.04 * coarse * colour(1.0, 0.9, 0.5) + 0.045 * fine * colour(0.9, 1.0, 0.5)
    snow = colour(0.90, 0.93, 0.97) + 0.025 * coarse + 0.01 * fine + 0.05 * ramp
    blue = colour(0.36, 0.58, 0.86) + 0.10 * (chance(3) - 0.5) + 0.16 * ramp + 0.015 * coarse
    sand = colour(0.87, 0.76, 0.55) + 0.05 * (chance(3) - 0.5) + 0.03 * coarse + 0.025 * fine
    painted = torch.stack([plain, table, grass, snow, blue, sand], 1).clamp(0, 1)
    return painted[torch.arange(number, device=device), kinds]


def _distract(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Add blurred spots to some images and flat rectangles of 4 to 13 pixels to others."""
    device, number = images.device, len(images)

    def chance(*shape: int) -> Tensor:
        return torch.rand(number, *shape, device=device, generator=generator)

    images = images + (chance(1, 1, 1) < 0.35) * 0.10 * _smooth_noise(number, 3, 10, images, generator)
    corner = torch.randint(0, IMAGE_SIZE - 14, (number, 3, 2), device=device, generator=generator).float()
    extent = 4 + 9 * chance(3, 2)
    pixels = torch.arange(IMAGE_SIZE, device=device).float()
    inside = ((pixels - corner[..., None]).abs() < extent[..., None] / 2).float()
    rectangles = inside[:, :, 0, :, None] * inside[:, :, 1, None, :] * (chance(3, 1, 1) < 0.25)
    rectangles = F.avg_pool2d(rectangles, 5, 1, 2)
    for rectangle in rectangles.split(1, dim=1):
        images = images * (1 - rectangle) + rectangle * chance(3, 1, 1)
    return images
