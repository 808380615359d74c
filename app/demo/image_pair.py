"""Two images side by side, or one over the other, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from torch import Tensor

from countgen.app.demo.html import hint, target_list
from countgen.app.demo.image_html import match, overlay, png_uri, zoomable
from countgen.critics import Detections
from countgen.prompts import Target
from countgen.prompts.plurals import counted


@dataclass(frozen=True)
class Side:
    """One of two images that are compared.

    Attributes:
        image: RGB float (3, H, W) in [0, 1].
        detections: by the judge, per target; empty if it counts without detecting.
        caption: what the image is, and its counts.
        name: "baseline" or the like, for the text that replaces the image.
        note: below the caption.
    """

    image: Tensor
    detections: Sequence[Detections]
    caption: str
    name: str
    note: str = ""


def caption(name: str, detections: Sequence[Detections]) -> str:
    """Return an image's name and how many objects of each class the judge detects, if it is one that detects."""
    found = ", ".join(f"{len(one)} {counted(one.object_name, len(one))}" for one in detections)
    return f"{name}: {found}" if found else name


def pair(before: Side, after: Side, targets: Sequence[Target], *, comparable: bool) -> str:
    """Return two images side by side, or one over the other behind a slider that the page can show.

    Args:
        before, after: left and right.
        targets: of the prompt.
        comparable: the images come from one seed, so that unchanged objects are shown with grey boxes.
    """
    matches = match(before.detections, after.detections) if comparable else None
    title = f"Image of {target_list(targets)}"
    figures = _figure("before", before, title, matches.before if matches else None)
    figures += _figure("after", after, title, matches.after if matches else None)
    legend = hint("Grey boxes: objects that both images show. Coloured boxes: what changed.") if matches else ""
    return (
        f"<div class='pair'>{figures}</div>"
        f"<label class='at'><span>{escape(before.name)}</span>"
        "<input type='range' min='0' max='100' value='100' aria-label='Show baseline or result'>"
        f"<span>{escape(after.name)}</span></label>{legend}"
    )


def _figure(kind: str, side: Side, title: str, unchanged: Sequence[frozenset[int]] | None) -> str:
    height, width = side.image.shape[-2:]
    boxes = overlay((height, width), side.detections, unchanged)
    return (
        f"<figure class='{kind}'>{zoomable(side.image, f'{title}, {side.name}', boxes)}"
        f"<figcaption><b>{escape(side.caption)}</b> {escape(side.note)}</figcaption></figure>"
    )


def actions(png: bytes, file_name: str) -> str:
    """Return the download link and the switches of a finished image."""
    return (
        "<div class='actions'>"
        f"<a class='button' download='{escape(file_name, quote=True)}' href='{png_uri(png)}'>Download PNG</a>"
        "<label class='switch'><input type='checkbox' class='show-boxes' checked> Boxes</label>"
        "<label class='switch'><input type='checkbox' class='show-slider'> One over the other</label></div>"
    )
