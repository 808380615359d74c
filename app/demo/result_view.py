"""The picture in the middle of the page, live and finished, as HTML that holds all of its own data."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import countgen
from app.demo.curves import curve
from app.demo.html import asked, fact, hint, verdict
from app.generate import slug
from countgen.images import save_png, to_pil
from countgen.prompts import Target
from critics import Critic

THUMBNAIL_SIDE = 160
SECONDS_BETWEEN_PREVIEWS = 0.12
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7")
"""Of the boxes, one per kind of object; told apart by colour-blind readers (Okabe & Ito)."""

Boxes = Sequence[Sequence[Sequence[float]]]
"""Per target, per object: xyxy in pixels."""

EMPTY = (
    "<section class='stage empty'><div class='canvas'><p>Your picture appears here.</p></div>"
    + hint("Every picture is judged by a detector that did not steer it.")
    + "</section>"
)

QUEUED = (
    "<section class='stage running waiting' aria-busy='true'><div class='canvas'><p>Waiting for its turn …</p></div>"
    "</section>"
)

WAITING = (
    "<section class='stage running' aria-busy='true'><div class='canvas'><p>Loading the model …</p></div></section>"
)


@dataclass(frozen=True)
class Look:
    """One look at a run while it works.

    Attributes:
        counts: per target.
        loss: of the critics.
    """

    counts: tuple[int, ...]
    loss: float


def counted_boxes(critic: Critic, image: Tensor, targets: Sequence[Target]) -> list[list[list[float]]]:
    """Per target the boxes a detector counts, xyxy in pixels; empty for a critic that counts without detecting."""
    try:
        with torch.no_grad():
            found = critic.candidates(image[None], [target.object_name for target in targets])
    except TypeError:
        return [[] for _ in targets]
    return [
        candidates.boxes[0, candidates.kept[0] & (candidates.logits[0] > critic.threshold_logit)].tolist()
        for candidates in found
    ]


def jpeg_uri(image: Tensor | Image.Image, side: int | None = None) -> str:
    """A data URI of a preview, at most `side` pixels large."""
    picture = to_pil(image) if isinstance(image, Tensor) else image.copy()
    if side:
        picture.thumbnail((side, side))
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=92)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def png_uri(image: Tensor, recipe: Mapping[str, Any]) -> str:
    """A data URI of the PNG with its recipe inside; nothing stays on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        content = save_png(image, Path(folder) / "picture.png", recipe).read_bytes()
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def live(image: Tensor, boxes: Boxes, targets: Sequence[Target], looks: Sequence[Look], note: str) -> str:
    """The stage while a run works: the candidate at hand, its boxes, the count, and the curves."""
    return (
        "<section class='stage running' aria-busy='true'>"
        f"<div class='canvas'><img src='{jpeg_uri(image)}' alt='Candidate picture'>{overlay(image, boxes)}</div>"
        f"{_ticker(targets, looks[-1].counts)}{hint(note)}{_curves(targets, looks)}</section>"
    )


def finished(result: countgen.Result, judge: Critic, looks: Sequence[Look], stopped: bool) -> str:
    """The stage of a result: before and after, the judge's verdict, what it cost, and the PNG to keep."""
    targets = result.targets
    name = f"{slug(result.recipe['prompt'])}-{result.seed}.png"
    kind = "right" if result.verified else "wrong"
    ending = " You stopped it; this is the best so far." if stopped else ""
    title = escape(f"Picture of {asked(targets)}", quote=True)
    after, before = (overlay(image, counted_boxes(judge, image, targets)) for image in (result.image, result.before))
    return (
        "<section class='stage done'><div class='canvas compare'>"
        f"<img src='{jpeg_uri(result.image)}' alt='{title}, after'>{after}"
        f"<div class='before'><img src='{jpeg_uri(result.before)}' alt='{title}, before'>{before}"
        "<span class='tag left' aria-hidden='true'>before</span></div>"
        "<span class='tag right' aria-hidden='true'>after</span>"
        "<input type='range' min='0' max='100' value='12' aria-label='Show before or after'></div>"
        f"<p class='verdict {kind}' role='status'>{escape(verdict(targets, result.judge_counts))}{ending}</p>"
        f"{_ticker(targets, result.judge_counts)}"
        "<div class='actions'>"
        f"<a class='button' download='{escape(name, quote=True)}' href='{png_uri(result.image, result.recipe)}'>"
        "Download PNG</a>"
        "<label class='switch'><input type='checkbox' class='show-boxes' checked> Boxes</label></div>"
        "<dl class='facts'>"
        + fact("Time", f"{result.seconds:.1f} s")
        + fact("Evaluations", str(result.evaluations))
        + fact("Critics", "confirmed on every view" if result.confirmed else "not confirmed")
        + fact("Method", result.method)
        + fact("Seed", str(result.seed))
        + "</dl>"
        + (hint(result.stopped) if result.stopped else "")
        + _curves(targets, looks)
        + "</section>"
    )


def gallery(pictures: Sequence[Any]) -> str:
    """This visitor's pictures as buttons that bring them back on the stage."""
    if not pictures:
        return ""
    cards = "".join(
        f"<li><button type='button' data-index='{k}' class='{'right' if p.right else 'wrong'}'>"
        f"<img src='{p.thumbnail}' alt=''><span>{escape(p.title)}</span>"
        f"<em>{'right' if p.right else 'not reached'}</em></button></li>"
        for k, p in enumerate(pictures)
    )
    return f"<h2>Your pictures</h2><ul class='gallery'>{cards}</ul>"


def overlay(image: Tensor, boxes: Boxes) -> str:
    """Numbered boxes over a picture, a colour for each kind of object."""
    height, width = image.shape[-2:]
    unit = width / 128
    drawn = []
    for kind, found in enumerate(boxes):
        colour = _COLOURS[kind % len(_COLOURS)]
        for number, (x1, y1, x2, y2) in enumerate(found, start=1):
            x, y = max(0.0, x1), max(0.0, y1)
            drawn.append(
                f"<rect x='{x:.1f}' y='{y:.1f}' width='{max(0.0, x2 - x):.1f}' height='{max(0.0, y2 - y):.1f}' "
                f"stroke='{colour}'/><g transform='translate({x:.1f} {y:.1f}) scale({unit:.3f})'>"
                f"<rect class='number' width='{6 if number < 10 else 9}' height='7' fill='{colour}'/>"
                f"<text x='{3 if number < 10 else 4.5}' y='5.6'>{number}</text></g>"
            )
    return f"<svg class='boxes' viewBox='0 0 {width} {height}' aria-hidden='true'>{''.join(drawn)}</svg>"


def _ticker(targets: Sequence[Target], counts: Sequence[int]) -> str:
    """The count beside what was asked for, large."""
    items = []
    for target, count in zip(targets, counts, strict=True):
        kind = "right" if count == target.target_count else "wrong"
        items.append(
            f"<li class='{kind}'><b>{count}</b><span>of {target.target_count}</span>"
            f"<i>{escape(target.object_name)}</i></li>"
        )
    return f"<ul class='ticker'>{''.join(items)}</ul>"


def _curves(targets: Sequence[Target], looks: Sequence[Look]) -> str:
    if len(looks) < 2:
        return ""
    wanted = [target.target_count for target in targets]
    if len(wanted) == 1:
        counted = [float(look.counts[0]) for look in looks]
        first = curve("Objects counted", counted, float(wanted[0]), f"{counted[-1]:.0f} of {wanted[0]}")
    else:
        # A sum would look right where one kind has too many and the other too few.
        off = [float(sum(abs(a - b) for a, b in zip(look.counts, wanted, strict=True))) for look in looks]
        first = curve("Objects too many or too few", off, 0.0, f"{off[-1]:.0f}")
    return f"<div class='curves'>{first}{curve('Loss', [look.loss for look in looks])}</div>"
