"""What the embedded NanoDet counts in real photographs, and what an optimisation of their pixels does to it.

`python -m benchmarks.studies.photographs` prints the tables of docs/why-an-independent-judge.md. The photographs are
the two that the ultralytics package ships; the objects in them were counted by eye.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

import critics
from countgen import miniature
from critics import Critic
from critics.detectors.nanodet import IMAGE_SIZE
from critics.losses import LOSSES
from critics.validation import to_batch

TRUTH = {"bus": {"person": 4, "bus": 1}, "zidane": {"person": 2}}
"""Objects in each photograph, among the classes that are counted here."""
LARGEST_CHANGE = 4 / 255
"""Largest change of a pixel by an optimisation; hardly visible."""
THRESHOLDS = (0.25, 0.3, 0.4, 0.45)
SIZES = (320, 384, 448, 512)
OVERLAPS = (0.3, 0.5, 0.6, 0.7, 0.8)


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
    with Image.open(miniature.FOLDER / "objects" / "orange_noto.png") as drawing:
        opaque = to_batch(drawing.convert("RGBA").getchannel("A").resize((110, 110)))
        colour = to_batch(drawing.convert("RGBA").resize((110, 110)))
    for left in (30, 160, 290):
        place = image[..., 280:390, left : left + 110]
        place.copy_(place * (1 - opaque) + colour * opaque)
    return image


def views(image: Tensor) -> Iterator[Tensor]:
    """Versions of a photograph that hold the same objects."""
    edge = image.shape[-1] // 40
    for seen in (image, image.flip(3)):
        yield seen
        yield seen * 0.7
        yield 1 - (1 - seen) * 0.7
        yield avg_pool2d(seen, 3, 1, 1)
        yield interpolate(seen, scale_factor=0.6, mode="bilinear", antialias=True)
        yield seen[..., edge:]
        yield seen[..., edge:, :]
        yield seen[..., :-edge, :]


def pairs() -> list[tuple[Tensor, dict[str, int]]]:
    """Views of each photograph, and two copies of "zidane" one above the other, with their true counts."""
    found = [(view, truth) for name, truth in TRUTH.items() for view in views(photograph(name))]
    zidane = photograph("zidane")
    twice = torch.cat([zidane, zidane.flip(3)], 2)
    return found + [(view, {"person": 4}) for view in views(twice)]


def exact(critic: Critic, images: list[tuple[Tensor, dict[str, int]]]) -> tuple[int, int]:
    """Number of right counts, and of counts."""
    right = [critic.count(image, name) == count for image, truth in images for name, count in truth.items()]
    return sum(right), len(right)


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


def print_settings() -> None:
    """Print how many counts are right by threshold, NMS IoU and image size."""
    images = pairs()
    settings: list[dict[str, Any]] = [{}]
    settings += [{"threshold": threshold} for threshold in THRESHOLDS]
    settings += [{"nms_iou": overlap} for overlap in OVERLAPS]
    settings += [{"image_size": size} for size in SIZES]
    print("| threshold | NMS IoU | image size | exact |\n| --- | --- | --- | --- |")
    for setting in settings:
        critic = critics.load("nanodet", **setting)
        right, number = exact(critic, images)
        size = setting.get("image_size", IMAGE_SIZE)
        print(f"| {critic.threshold} | {critic.nms_iou} | {size} | {right} of {number} |", flush=True)


def print_counts() -> None:
    """Print the counts before and after an optimisation of the pixels against NanoDet."""
    critic, judge = critics.load("nanodet"), miniature.load_detector("miniature-fcos")
    bus, zidane = photograph("bus"), photograph("zidane")
    scenes = [("bus", bus, "person", target, False) for target in (0, 2, 6, 8)]
    scenes += [("zidane", zidane, "person", target, False) for target in (0, 1, 4)]
    scenes += [("zidane, optimised with its mirror image", zidane, "person", target, True) for target in (0, 1, 4)]
    scenes += [("bus with oranges", with_oranges(bus), "orange", target, False) for target in (0, 2, 5, 8)]
    print("| image | class | target | NanoDet | NanoDet on the mirror image | miniature-fcos |")
    print("| --- | --- | --- | --- | --- | --- |")
    for label, image, name, target, mirror in scenes:
        after = optimised(image, critic, {name: target}, mirror=mirror)
        found = [critic.count(seen, name) for seen in (image, after, image.flip(3), after.flip(3))]
        judged = f"{judge.count(image, name)}, {judge.count(after, name)}" if name == "orange" else "-"
        counts = "{}, {} | {}, {}".format(*found)
        print(f"| {label} | {name} | {target} | {counts} | {judged} |", flush=True)


def main(words: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.photographs", description=__doc__)
    parser.parse_args(words)
    print_settings()
    print()
    print_counts()


if __name__ == "__main__":
    main()
