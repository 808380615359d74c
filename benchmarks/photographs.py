"""What the embedded NanoDet counts in real photographs, and what an optimisation of their pixels does to it.

`python -m benchmarks.photographs` prints the tables of docs/why-an-independent-judge.md. The photographs are the two that the
ultralytics package ships; the objects in them were counted by eye.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

import critics
from countgen import miniature
from critics import Critic
from critics.losses import LOSSES
from critics.requests import to_batch

TRUTH = {"bus": {"person": 4, "bus": 1}, "zidane": {"person": 2}}
"""Objects in each photograph, among the classes that are counted here."""
LARGEST_CHANGE = 4 / 255
"""Of a pixel, by an optimisation; hardly visible."""
THRESHOLDS = (0.25, 0.3, 0.35, 0.4, 0.45)
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


def optimised(
    image: Tensor, critic: Critic, target: dict[str, int], steps: int = 100, change: float = LARGEST_CHANGE
) -> Tensor:
    """The image after signed gradient steps towards a count, each pixel within `change` of what it was."""
    moved = image
    for _ in range(steps):
        moved = moved.detach().requires_grad_()
        found = critic.assess(moved, target, LOSSES["margin"])
        if (found.margin >= 1).all():
            break
        (gradient,) = torch.autograd.grad(found.loss.sum(), moved)
        moved = (moved - gradient.sign() / 255).detach()
        moved = (image + (moved - image).clamp(-change, change)).clamp(0, 1)
    return (moved.detach() * 255).round() / 255


def main() -> None:
    """Print the tables."""
    images = pairs()
    print(
        f"Exact counts in {len(images)} views of the photographs\n\n| threshold | NMS IoU | exact |\n| --- | --- | --- |"
    )
    chosen = critics.load("nanodet")
    settings = [(threshold, chosen.nms_iou) for threshold in THRESHOLDS]
    settings += [(chosen.threshold, overlap) for overlap in OVERLAPS]
    for threshold, overlap in settings:
        right, number = exact(critics.load("nanodet", threshold=threshold, nms_iou=overlap), images)
        print(f"| {threshold} | {overlap} | {right} of {number} |")
    critic, judge = critics.load("nanodet"), miniature.load_detector("miniature-fcos")
    print(
        "\nCounts before and after an optimisation of the pixels against NanoDet\n\n"
        "| image | object | target | NanoDet | NanoDet on the mirror image | miniature-fcos |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )
    scenes = [("bus", photograph("bus"), "person", (0, 2, 6, 8)), ("zidane", photograph("zidane"), "person", (0, 1, 4))]
    scenes.append(("bus with oranges", with_oranges(photograph("bus")), "orange", (0, 2, 5, 8)))
    for label, image, name, targets in scenes:
        for target in targets:
            after = optimised(image, critic, {name: target})
            seen = [
                f"{critic.count(before, name)}, {critic.count(now, name)}" for before, now in _and_mirror(image, after)
            ]
            judged = f"{judge.count(image, name)}, {judge.count(after, name)}" if name == "orange" else "-"
            print(f"| {label} | {name} | {target} | {' | '.join(seen)} | {judged} |", flush=True)


def _and_mirror(before: Tensor, after: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(before, after), (before.flip(3), after.flip(3))]


if __name__ == "__main__":
    main()
