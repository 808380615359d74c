"""Real photographs, counted by eye, and an optimisation of their pixels against a critic.

The photographs are the two that the ultralytics package ships.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from countgen.benchmarks.miniature.world import OBJECTS_FOLDER
from countgen.critics import Critic
from countgen.critics.losses import LOSSES
from countgen.critics.validation import to_batch

TRUTH = {"bus": {"person": 4, "bus": 1}, "zidane": {"person": 2}}
"""Objects in each photograph, among the classes that are counted here."""
LARGEST_CHANGE = 4 / 255
"""Largest change of a pixel by an optimisation; hardly visible."""


def photograph(name: str) -> Tensor:
    """A photograph of `TRUTH`: RGB (1, 3, H, W) in [0, 1].

    Raises:
        FileNotFoundError: the installed ultralytics package does not ship it.
    """
    found = importlib.util.find_spec("ultralytics")
    assert found is not None
    assert found.origin is not None
    with Image.open(Path(found.origin).parent / "assets" / f"{name}.jpg") as image:
        return to_batch(image)


def with_oranges(image: Tensor) -> Tensor:
    """A 416x416 version of a photograph with three rendered oranges in a row in front."""
    image = interpolate(image, (416, 416), mode="bilinear", antialias=True).clone()
    with Image.open(OBJECTS_FOLDER / "orange_noto.png") as drawing:
        opaque = to_batch(drawing.convert("RGBA").getchannel("A").resize((110, 110)))
        colour = to_batch(drawing.convert("RGBA").resize((110, 110)))
    for left in (30, 160, 290):
        place = image[..., 280:390, left : left + 110]
        place.copy_(place * (1 - opaque) + colour * opaque)
    return image


def optimised(image: Tensor, critic: Critic, target: dict[str, int], steps: int = 100, mirror: bool = False) -> Tensor:
    """The image after signed gradient steps towards a count, each pixel within `LARGEST_CHANGE`, in 8-bit levels.

    Args:
        image: RGB (1, 3, H, W) in [0, 1].
        critic: optimised against.
        target: count by object name.
        steps: at most so many; fewer where the critic is sure before.
        mirror: optimise against the critic's evaluation of the mirror image too.
    """
    moved = image
    for _ in range(steps):
        moved = moved.detach().requires_grad_()
        seen = torch.cat([moved, moved.flip(3)]) if mirror else moved
        found = critic.evaluate(seen, target, LOSSES["margin"])
        if (found.margin >= 1).all():
            break
        (gradient,) = torch.autograd.grad(found.loss.sum(), moved)
        moved = (moved - gradient.sign() / 255).detach()
        moved = (image + (moved - image).clamp(-LARGEST_CHANGE, LARGEST_CHANGE)).clamp(0, 1)
    return (moved.detach() * 255).round() / 255
