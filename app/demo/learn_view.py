"""The learning of a token and its evaluation, as HTML."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from torch import Tensor

from countgen.app.demo.curves import curve
from countgen.app.demo.html import fact, hint
from countgen.app.demo.image_html import overlay, shown_uri
from countgen.app.demo.result_view import size_of
from countgen.critics import Detections
from countgen.methods.step import Step
from countgen.prompts.plurals import count_in_words
from countgen.tokens.file import CountToken, encoded

EMPTY = (
    "<section class='stage empty'><div class='canvas'><p>Images made with the token appear here.</p></div>"
    + hint(
        "A count token is a new word of the text encoder that stands for a number. It is learned once, with gradients "
        "through the model and the critics; using it costs no more than using any other word."
    )
    + "</section>"
)


@dataclass(frozen=True)
class Trial:
    """One image on a seed that the token was not learned on, compared with its baseline, the number word.

    Attributes:
        image: RGB float (3, H, W) in [0, 1], generated with the token.
        detections: by the judge; empty if it counts without detecting.
        object_name: of the target.
        count, baseline_count: the judge's counts with the token and with the number word.
    """

    image: Tensor
    detections: Sequence[Detections]
    object_name: str
    count: int
    baseline_count: int


def live(
    step: Step, detections: Sequence[Detections], goal: int, losses: Sequence[float], counts: Sequence[float]
) -> str:
    """Return the view while a token is learned."""
    return (
        "<section class='stage running' aria-busy='true'>"
        f"<div class='canvas'><img src='{shown_uri(step.image)}' alt='Image of this step'>"
        f"{overlay(size_of(step.image), detections)}</div>"
        + hint(f"Step {step.index + 1} · {step.evaluations} evaluations · {step.seconds:.0f} s")
        + _curves(goal, losses, counts)
        + "</section>"
    )


def finished(
    name: str,
    token: CountToken,
    trials: Sequence[Trial],
    seconds: float,
    losses: Sequence[float],
    counts: Sequence[float],
) -> str:
    """Return the view of a learned token: its evaluation on new seeds, if any, and the file to download."""
    goal = token.target_count
    cards = "".join(
        f"<li class='{'right' if trial.count == goal else 'wrong'}'>"
        f"<div class='canvas'><img src='{shown_uri(trial.image)}' alt=''>"
        f"{overlay(size_of(trial.image), trial.detections)}</div>"
        f"<b>{count_in_words(trial.count)} of {goal}</b><span>{escape(trial.object_name)}, baseline: "
        f"{count_in_words(trial.baseline_count)}"
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
        + f"</dl>{_curves(goal, losses, counts)}</section>"
    )


def _verdict(goal: int, trials: Sequence[Trial]) -> str:
    """Return the comparison with the baseline; it is marked as right only if the token is better."""
    if not trials:
        return (
            "<p class='verdict' role='status'>Stopped by you: this is the best token so far, "
            "not evaluated on new seeds.</p>"
        )
    right = sum(trial.count == goal for trial in trials)
    baseline = sum(trial.baseline_count == goal for trial in trials)
    state = "right" if right > baseline else "wrong" if right < baseline else ""
    return (
        f"<p class='verdict {state}' role='status'>Correct counts on new seeds, by the judge: {right} of {len(trials)} "
        f"with the token, {baseline} of {len(trials)} with the number word (baseline).</p>"
    )


def _curves(goal: int, losses: Sequence[float], counts: Sequence[float]) -> str:
    """Return the charts of the soft count and the loss; none for a token that was not trained."""
    if not losses:
        return ""
    soft_count = curve("Soft count, mean of the batch", counts, float(goal), f"{counts[-1]:.1f} of {goal}")
    return f"<div class='curves'>{soft_count}{curve('Loss', losses)}</div>"
