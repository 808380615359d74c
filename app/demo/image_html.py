"""Images as data URIs, and the boxes that are laid over them."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from countgen.critics import Critic, Detections
from countgen.image_preservation import same_objects
from countgen.images import save_png, to_pil
from countgen.prompts import Target

SHOWN_SIDE = 384
"""Smaller images are enlarged to this many pixels on the longer side, by a better filter than the browser's."""

COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7")
"""Box colours, one per object class; colour-blind readers can tell them apart (Okabe & Ito)."""

UNCHANGED = "#a8a29e"
"""Box colour of an object that both images show."""


def detect(critic: Critic, image: Tensor, targets: Sequence[Target]) -> tuple[Detections, ...]:
    """Return the detections per target, none for a critic that counts without detecting; `image` is (3, H, W)."""
    return critic.detect(image, [target.object_name for target in targets])[0] if critic.detects else ()


def jpeg_uri(image: Tensor | Image.Image, side: int | None = None) -> str:
    """Return a preview as a data URI, at most `side` pixels high and wide."""
    preview = to_pil(image) if isinstance(image, Tensor) else image.copy()
    if side:
        preview.thumbnail((side, side))
    return "data:image/jpeg;base64," + _encoded(preview)


def shown_uri(image: Tensor | Image.Image) -> str:
    """Return an image as a data URI; a small one is enlarged to `SHOWN_SIDE` pixels."""
    shown = to_pil(image) if isinstance(image, Tensor) else image
    longer = max(shown.size)
    if longer < SHOWN_SIDE:
        size = (round(shown.width * SHOWN_SIDE / longer), round(shown.height * SHOWN_SIDE / longer))
        shown = shown.resize(size, Image.Resampling.LANCZOS)
    return "data:image/jpeg;base64," + _encoded(shown)


def _encoded(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=92)
    return base64.b64encode(file.getvalue()).decode("ascii")


def png_bytes(image: Tensor, recipe: Mapping[str, Any]) -> bytes:
    """Return the PNG with its recipe; no file stays on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        return save_png(image, Path(folder) / "image.png", recipe).read_bytes()


def png_uri(content: bytes) -> str:
    """Return the content of a PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


@dataclass(frozen=True)
class Matches:
    """The objects that two images share, for each target: indices of detections.

    Attributes:
        before, after: of the objects that both images show.
    """

    before: tuple[frozenset[int], ...]
    after: tuple[frozenset[int], ...]


def match(before: Sequence[Detections], after: Sequence[Detections]) -> Matches:
    """Return which detections of two images are the same objects, as `countgen.image_preservation` decides."""
    pairs = [same_objects(old.boxes, new.boxes) for old, new in zip(before, after, strict=True)]
    return Matches(
        tuple(frozenset(found.values()) for found in pairs),
        tuple(frozenset(found) for found in pairs),
    )


def zoomable(image: Tensor | Image.Image | str, alt: str, boxes: str, *, kind: str = "", style: str = "") -> str:
    """Return an image with its boxes as a button that shows it as large as the window.

    Args:
        image: or its data URI.
        alt: what the image shows.
        boxes: from `overlay`.
        kind: further CSS classes.
        style: CSS of the frame.
    """
    uri = image if isinstance(image, str) else shown_uri(image)
    return (
        f"<button type='button' class='canvas {kind}' style='{style}' title='Enlarge'>"
        f"<img src='{uri}' alt='{escape(alt, quote=True)}'>{boxes}</button>"
    )


def overlay(
    size: tuple[int, int], detections: Sequence[Detections], unchanged: Sequence[frozenset[int]] | None = None
) -> str:
    """Return numbered boxes to lay over an image, one colour per object class; unchanged objects are grey.

    Args:
        size: height and width of the image.
        detections: one entry per object class.
        unchanged: indices of the objects that another image shows as well, for each class; None for no comparison.
    """
    height, width = size
    unit = width / 128
    shapes = []
    for index, found in enumerate(detections):
        same = unchanged[index] if unchanged else frozenset()
        for number, (x1, y1, x2, y2) in enumerate(found.boxes.tolist(), start=1):
            colour, kind = COLOURS[index % len(COLOURS)], ""
            if number - 1 in same:
                colour, kind = UNCHANGED, " class='same'"
            x, y = max(0.0, x1), max(0.0, y1)
            shapes.append(
                f"<rect{kind} x='{x:.1f}' y='{y:.1f}' "
                f"width='{max(0.0, x2 - x):.1f}' height='{max(0.0, y2 - y):.1f}' "
                f"stroke='{colour}'/><g transform='translate({x:.1f} {y:.1f}) scale({unit:.3f})'>"
                f"<rect class='number' width='{6 if number < 10 else 9}' height='7' fill='{colour}'/>"
                f"<text x='{3 if number < 10 else 4.5}' y='5.6'>{number}</text></g>"
            )
    return f"<svg class='boxes' viewBox='0 0 {width} {height}' aria-hidden='true'>{''.join(shapes)}</svg>"
