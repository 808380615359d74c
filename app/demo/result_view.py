"""The generated image with its counts and history, during a run and after it, as self-contained HTML."""

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

import countgen
from app.demo.curves import curve
from app.demo.html import counts_of, fact, hint, target_list
from app.demo.session import GalleryEntry
from app.image_files import slug
from countgen.images import save_png, to_pil
from countgen.prompts import Target
from countgen.prompts.plurals import counted
from critics import Critic, Detections

THUMBNAIL_SIDE = 160
SECONDS_BETWEEN_PREVIEWS = 0.12
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7")
"""Box colours, one per object class; colour-blind readers can tell them apart (Okabe & Ito)."""

EMPTY = (
    "<section class='stage empty'><div class='canvas'><p>Your image appears here.</p></div>"
    + hint("A detector that did not steer the image, the judge, counts its objects.")
    + "</section>"
)

QUEUED = (
    "<section class='stage running waiting' aria-busy='true'><div class='canvas'><p>Waiting in the queue …</p></div>"
    "</section>"
)

LOADING = (
    "<section class='stage running' aria-busy='true'><div class='canvas'><p>Loading the model …</p></div></section>"
)


@dataclass(frozen=True)
class HistoryEntry:
    """The counts and the loss of one step of a run.

    Attributes:
        counts: by the first critic, per target.
        loss: the count loss of the critics.
    """

    counts: tuple[int, ...]
    loss: float


def detect(critic: Critic, image: Tensor, targets: Sequence[Target]) -> tuple[Detections, ...]:
    """Return the detections per target, none for a critic that counts without detecting; `image` is (3, H, W)."""
    try:
        return critic.detect(image, [target.object_name for target in targets])[0]
    except TypeError:
        return ()


def jpeg_uri(image: Tensor | Image.Image, side: int | None = None) -> str:
    """Return a preview as a data URI, at most `side` pixels high and wide."""
    preview = to_pil(image) if isinstance(image, Tensor) else image.copy()
    if side:
        preview.thumbnail((side, side))
    file = io.BytesIO()
    preview.save(file, format="JPEG", quality=92)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def png_uri(image: Tensor, recipe: Mapping[str, Any]) -> str:
    """Return the PNG with its recipe as a data URI; no file stays on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        content = save_png(image, Path(folder) / "image.png", recipe).read_bytes()
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def live(
    image: Tensor,
    detections: Sequence[Detections],
    targets: Sequence[Target],
    history: Sequence[HistoryEntry],
    note: str,
) -> str:
    """Return the view of a run in progress: the current candidate with boxes, its counts, and the curves."""
    return (
        "<section class='stage running' aria-busy='true'>"
        f"<div class='canvas'><img src='{jpeg_uri(image)}' alt='Candidate image'>{overlay(image, detections)}</div>"
        f"{_count_list(targets, history[-1].counts)}{hint(note)}{_curves(targets, history)}</section>"
    )


def finished(result: countgen.Result, history: Sequence[HistoryEntry], stopped: bool) -> str:
    """Return the view of a result: baseline and result, the judge's counts, the cost, and the PNG to download."""
    targets = result.targets
    name = f"{slug(result.recipe['prompt'])}-{result.seed}.png"
    state = "right" if result.verified else "wrong"
    ending = " Stopped by you: this is the best image so far." if stopped else ""
    title = escape(f"Image of {target_list(targets)}", quote=True)
    return (
        "<section class='stage done'><div class='canvas compare'>"
        f"<img src='{jpeg_uri(result.image)}' alt='{title}, result'>{overlay(result.image, result.detections)}"
        f"<div class='before'><img src='{jpeg_uri(result.before)}' alt='{title}, baseline'>"
        f"{overlay(result.before, result.before_detections)}"
        "<span class='tag left' aria-hidden='true'>baseline</span></div>"
        "<span class='tag right' aria-hidden='true'>result</span>"
        "<input type='range' min='0' max='100' value='12' aria-label='Show baseline or result'></div>"
        f"<p class='verdict {state}' role='status'>{escape(verdict(targets, result.judge_counts))}{ending}</p>"
        f"{_count_list(targets, result.judge_counts)}"
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
        + _curves(targets, history)
        + "</section>"
    )


def verdict(targets: Sequence[Target], counts: Sequence[int]) -> str:
    """Return the judge's counts as one sentence."""
    return f"The judge counts {counts_of(targets, counts)}."


def gallery(entries: Sequence[GalleryEntry]) -> str:
    """Return a visitor's images as buttons, each of which shows its result again."""
    if not entries:
        return ""
    cards = "".join(
        f"<li><button type='button' data-index='{k}' class='{'right' if entry.correct else 'wrong'}'>"
        f"<img src='{entry.thumbnail}' alt=''><span>{escape(entry.title)}</span>"
        f"<em>{'correct' if entry.correct else 'not correct'}</em></button></li>"
        for k, entry in enumerate(entries)
    )
    return f"<h2>Your images</h2><ul class='gallery'>{cards}</ul>"


def overlay(image: Tensor, detections: Sequence[Detections]) -> str:
    """Return numbered boxes to lay over an image, one colour per object class."""
    height, width = image.shape[-2:]
    unit = width / 128
    shapes = []
    for index, found in enumerate(detections):
        colour = _COLOURS[index % len(_COLOURS)]
        for number, (x1, y1, x2, y2) in enumerate(found.boxes.tolist(), start=1):
            x, y = max(0.0, x1), max(0.0, y1)
            shapes.append(
                f"<rect x='{x:.1f}' y='{y:.1f}' width='{max(0.0, x2 - x):.1f}' height='{max(0.0, y2 - y):.1f}' "
                f"stroke='{colour}'/><g transform='translate({x:.1f} {y:.1f}) scale({unit:.3f})'>"
                f"<rect class='number' width='{6 if number < 10 else 9}' height='7' fill='{colour}'/>"
                f"<text x='{3 if number < 10 else 4.5}' y='5.6'>{number}</text></g>"
            )
    return f"<svg class='boxes' viewBox='0 0 {width} {height}' aria-hidden='true'>{''.join(shapes)}</svg>"


def _count_list(targets: Sequence[Target], counts: Sequence[int]) -> str:
    """Return each count in large digits beside its target."""
    items = []
    for target, count in zip(targets, counts, strict=True):
        state = "right" if count == target.target_count else "wrong"
        items.append(
            f"<li class='{state}'><b>{count}</b><span>of {target.target_count}</span>"
            f"<i>{escape(counted(target.object_name, target.target_count))}</i></li>"
        )
    return f"<ul class='ticker'>{''.join(items)}</ul>"


def _curves(targets: Sequence[Target], history: Sequence[HistoryEntry]) -> str:
    if len(history) < 2:
        return ""
    goals = [target.target_count for target in targets]
    if len(goals) == 1:
        counts = [float(entry.counts[0]) for entry in history]
        first = curve("Objects counted", counts, float(goals[0]), f"{counts[-1]:.0f} of {goals[0]}")
    else:
        # A sum of counts would look right where one class has too many objects and the other too few.
        errors = [float(sum(abs(a - b) for a, b in zip(entry.counts, goals, strict=True))) for entry in history]
        first = curve("Sum of count errors", errors, 0.0, f"{errors[-1]:.0f}")
    return f"<div class='curves'>{first}{curve('Loss', [entry.loss for entry in history])}</div>"
