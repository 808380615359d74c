"""A token in the making and a finished one, as HTML."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from torch import Tensor

from app.demo.curves import curve
from app.demo.html import fact, hint
from app.demo.result_view import Boxes, jpeg_uri, overlay
from countgen.methods.step import Step
from countgen.tokens.file import CountToken, encoded

EMPTY = (
    "<section class='stage empty'><div class='canvas'><p>The token's pictures appear here.</p></div>"
    + hint(
        "A count token is a new word that stands for a number. It is learned once, by gradient through the model and "
        "the critics, and then needs no more work than any other word."
    )
    + "</section>"
)


@dataclass(frozen=True)
class Trial:
    """One picture on a seed that the token was not learned on, and the same with the number word alone.

    Attributes:
        image: RGB float (3, H, W) in [0, 1], drawn with the token.
        boxes: the judge's.
        object_name: what was asked for.
        found, found_before: the judge's counts with the token and without.
    """

    image: Tensor
    boxes: Boxes
    object_name: str
    found: int
    found_before: int


def learning(step: Step, boxes: Boxes, goal: int, losses: Sequence[float], counted: Sequence[float]) -> str:
    """The stage while a token is learned."""
    return (
        "<section class='stage running' aria-busy='true'>"
        f"<div class='canvas'><img src='{jpeg_uri(step.image)}' alt='Picture of this step'>"
        f"{overlay(step.image, boxes)}</div>"
        + hint(f"Step {step.index + 1} · {step.evaluations} evaluations · {step.seconds:.0f} s")
        + _curves(goal, losses, counted)
        + "</section>"
    )


def learned(
    name: str,
    token: CountToken,
    trials: Sequence[Trial],
    seconds: float,
    losses: Sequence[float],
    counted: Sequence[float],
) -> str:
    """The stage of a finished token: what it does on new seeds, where it was tried, and the file to keep."""
    goal = token.target_count
    cards = "".join(
        f"<li class='{'right' if trial.found == goal else 'wrong'}'>"
        f"<div class='canvas'><img src='{jpeg_uri(trial.image)}' alt=''>{overlay(trial.image, trial.boxes)}</div>"
        f"<b>{trial.found} of {goal}</b><span>{escape(trial.object_name)}, number word alone: {trial.found_before}"
        "</span></li>"
        for trial in trials
    )
    data = base64.b64encode(encoded(token)).decode("ascii")
    return (
        "<section class='stage done learned'>"
        f"{_verdict(goal, trials)}<ul class='trials'>{cards}</ul><div class='actions'>"
        f"<a class='button' download='{escape(token.name, quote=True)}.safetensors' "
        f"href='data:application/octet-stream;base64,{data}'>Download token</a></div><dl class='facts'>"
        + fact("Token", name)
        + fact("Learned on", ", ".join(token.object_names))
        + fact("Steps", str(len(losses)))
        + fact("Time", f"{seconds:.0f} s")
        + f"</dl>{_curves(goal, losses, counted)}</section>"
    )


def _verdict(goal: int, trials: Sequence[Trial]) -> str:
    """Green only where the token is better than the word; no better is no success."""
    if not trials:
        return "<p class='verdict' role='status'>You stopped it: this is the best so far, not tried on new seeds.</p>"
    right = sum(trial.found == goal for trial in trials)
    before = sum(trial.found_before == goal for trial in trials)
    kind = "right" if right > before else "wrong" if right < before else ""
    return (
        f"<p class='verdict {kind}' role='status'>On new seeds the judge accepts {right} of {len(trials)} with the "
        f"token, {before} with the number word alone.</p>"
    )


def _curves(goal: int, losses: Sequence[float], counted: Sequence[float]) -> str:
    """Both curves of a learning; there is at least one step."""
    soft_count = curve("Soft count, mean of the batch", counted, float(goal), f"{counted[-1]:.1f} of {goal}")
    return f"<div class='curves'>{soft_count}{curve('Loss', losses)}</div>"
