"""Images as the page shows them: enlarged if small, with numbered boxes."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from countgen.critics import Critic, Detections
from countgen.image_preservation import same_objects
from countgen.images import to_pil
from countgen.prompts import Target

SHOWN_SIDE = 512
"""Smaller images are enlarged to this many pixels on the longer side, by a better filter than the browser's."""
LARGEST_SIDE = 1280

COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7")
"""Box colours, one per object class; colour-blind readers can tell them apart (Okabe & Ito)."""
UNCHANGED = "#a8a29e"
"""Box colour of an object that both images show."""


def detect(critic: Critic, image: Tensor, targets: Sequence[Target]) -> tuple[Detections, ...]:
    """Return the detections per target in an image (3, H, W), none for a critic that counts without detecting."""
    return critic.detect(image, [target.object_name for target in targets])[0] if critic.detects else ()


def unchanged(before: Sequence[Detections], after: Sequence[Detections]) -> tuple[list[set[int]], list[set[int]]]:
    """Return which detections are of objects that two images share, by target: of the one before and of the other."""
    pairs = [same_objects(old.boxes, new.boxes) for old, new in zip(before, after, strict=True)]
    return [set(pair.values()) for pair in pairs], [set(pair) for pair in pairs]


def boxed(
    image: Tensor | Image.Image, detections: Sequence[Detections] = (), same: Sequence[set[int]] | None = None
) -> Image.Image:
    """Return an image as it is shown, with numbered boxes, one colour per object class; unchanged objects are grey.

    Args:
        image: RGB float (3, H, W) in [0, 1], or a PIL image.
        detections: one entry per object class.
        same: indices of the unchanged objects, for each class; None without another image to compare with.
    """
    given = to_pil(image) if isinstance(image, Tensor) else image
    scale = max(SHOWN_SIDE / max(given.size), 1.0) * min(LARGEST_SIDE / max(given.size), 1.0)
    size = round(given.width * scale), round(given.height * scale)
    shown = given.resize(size, Image.Resampling.LANCZOS) if size != given.size else given.copy()
    canvas, line = ImageDraw.Draw(shown), max(2, max(size) // 250)
    font = ImageFont.load_default(size=max(15, max(size) // 40))
    for index, of_class in enumerate(detections):
        for number, box in enumerate(of_class.boxes.tolist()):
            kept = same is not None and number in same[index]
            colour = UNCHANGED if kept else COLOURS[index % len(COLOURS)]
            left, top, right, bottom = (value * scale for value in box)
            canvas.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=line)
            corner = max(0.0, left), max(0.0, top)
            text = canvas.textbbox(corner, f" {number + 1} ", font=font)
            canvas.rectangle((*corner, text[2], text[3] + 2), fill=colour)
            canvas.text(corner, f" {number + 1} ", fill="black", font=font)
    return shown
