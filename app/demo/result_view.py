"""The generated image with its counts and history, during a run and after it, as self-contained HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from torch import Tensor

import countgen
from countgen.app.demo.curves import curve
from countgen.app.demo.html import counts_of, fact, hint
from countgen.app.demo.image_html import overlay, shown_uri
from countgen.app.demo.image_pair import Side, actions, caption, pair
from countgen.critics import NO_ANSWER, Detections
from countgen.methods.step import Step
from countgen.prompts import Target
from countgen.prompts.plurals import counted

SECONDS_BETWEEN_PREVIEWS = 0.12

EMPTY = (
    "<section class='stage empty'><div class='canvas'><p>Your image appears here.</p></div>"
    + hint("A detector that did not steer the image, the judge, counts its objects.")
    + "</section>"
)

PHASES = {
    "search": "Searching seeds",
    "refine": "Refining the latents by gradient",
    "edit": "Editing near undecided objects",
    "edit, low frequencies too": "Editing, low frequencies too",
    "edit, mask widened": "Editing, mask widened",
}


@dataclass(frozen=True)
class HistoryEntry:
    """The counts and the loss of one step of a run.

    Attributes:
        counts: by the first critic, per target.
        loss: the count loss of the critics.
    """

    counts: tuple[int, ...]
    loss: float


def queued(jobs_before: int = 0, seconds: float | None = None) -> str:
    """Return the view of a job that waits for other jobs, which take about so many seconds; None if unknown."""
    place = f": {jobs_before} {counted('job', jobs_before)} before yours" if jobs_before else ""
    time = f", about {max(1, round(seconds))} s" if jobs_before and seconds is not None else ""
    return (
        "<section class='stage running waiting' aria-busy='true'><div class='canvas'>"
        f"<p>Waiting in the queue{place}{time} …</p></div></section>"
    )


def starting(loaded: bool) -> str:
    """Return the view of a job that begins, with a model that is loaded already or not."""
    said = "Starting" if loaded else "Loading the model"
    return f"<section class='stage running' aria-busy='true'><div class='canvas'><p>{said} …</p></div></section>"


def live(
    step: Step,
    detections: Sequence[Detections],
    targets: Sequence[Target],
    history: Sequence[HistoryEntry],
    *,
    critic: str,
    max_seconds: float,
    title: str = "",
) -> str:
    """Return the view of a run in progress: the current candidate, what the steering detector counts, the curves."""
    spent = f"{step.evaluations} {counted('evaluation', step.evaluations)}"
    note = f"{title}{PHASES.get(step.phase, step.phase)} · {spent}"
    left = max(0.0, max_seconds - step.seconds)
    return (
        "<section class='stage running' aria-busy='true'>"
        f"<div class='canvas'><img src='{shown_uri(step.image)}' alt='Candidate image'>"
        f"{overlay(size_of(step.image), detections)}</div>"
        f"<p class='verdict {_state(step, targets)}'>{escape(steering(step, targets, critic))}</p>"
        f"{_count_list(targets, step.counts)}"
        f"<progress max='{max_seconds:g}' value='{min(step.seconds, max_seconds):.1f}' "
        f"aria-label='Time used of the limit'></progress>"
        f"{hint(f'{note} · {step.seconds:.1f} s, at most {left:.0f} s left')}{_curves(targets, history)}</section>"
    )


def _state(step: Step, targets: Sequence[Target]) -> str:
    """Return the CSS classes of the steering detector's certainty."""
    return "" if not certainty(step, targets) else "open confirmed" if step.confirmed else "open"


def certainty(step: Step, targets: Sequence[Target]) -> str:
    """Return how certain a right count of the steering detector is; empty where it is wrong."""
    if step.counts != tuple(target.target_count for target in targets):
        return ""
    if step.confirmed:
        return "confirmed on every view; the judge counts next"
    if step.margin > 0:
        return "right on every view, but close to the threshold"
    return "waiting for confirmation by the other views and detectors"


def steering(step: Step, targets: Sequence[Target], critic: str) -> str:
    """Return what the steering detector counts during a run, and that it is not the judge's count."""
    certain = certainty(step, targets)
    return f"Steering detector {critic}: {counts_of(targets, step.counts)}{', ' + certain if certain else ''}."


def finished(
    result: countgen.Result,
    history: Sequence[HistoryEntry],
    png: bytes,
    file_name: str,
    *,
    original: bool = False,
    ending: str = "",
    timed: bool = True,
) -> str:
    """Return the view of a result: both images, the judge's counts, the cost, and the PNG to download.

    Args:
        result: of a run.
        history: of its steps.
        png: content of the PNG file, recipe inside.
        file_name: of the download.
        original: `result.before` is an image that was edited, which had other targets; a baseline otherwise.
        ending: a sentence after the judge's counts.
        timed: show the time as well.
    """
    targets, found = result.targets, result.recipe["candidate_seed"]
    same_seed = found == result.seed
    curves = _curves(targets, history)
    boxes = result.before_detections
    if original:
        name = "Original"
        was = caption(name, boxes)
    else:
        name = was = "Baseline"
        was += f": {counts_of(targets, [len(one) for one in boxes])}" if boxes else ""
    before = Side(result.before, boxes, was, name, f"seed {result.seed}")
    seed = f"seed {found}" if same_seed else f"seed {found}, another one, which the search found"
    after = Side(result.image, result.detections, f"Result: {counts_of(targets, result.judge_counts)}", "Result", seed)
    return (
        f"<section class='stage done'>{pair(before, after, targets, comparable=same_seed)}"
        f"{closing(result, ending)}{actions(png, file_name)}<dl class='facts'>"
        + (fact("Time", f"{result.seconds:.1f} s") if timed else "")
        + fact("Evaluations", str(result.evaluations))
        + fact("Method", result.method)
        + fact("Seed", str(result.seed))
        + (kept_facts(result) if same_seed else "")
        + "</dl>"
        + (hint(result.stopped) if result.stopped else "")
        + (
            f"<details><summary>Course of the run</summary>{curves}</details>"
            if (curves := _curves(targets, history))
            else ""
        )
        + "</section>"
    )


def closing(result: countgen.Result, ending: str = "") -> str:
    """Return the judge's counts as one sentence, and why a count that steering confirmed may still be wrong."""
    silent = NO_ANSWER in result.judge_counts
    state = "right" if result.verified else "" if silent else "wrong"
    said = f"{verdict(result.targets, result.judge_counts)}{ending}"
    notes = ""
    if silent:
        notes = hint("A judge without an answer says neither that the count is right nor that it is wrong.")
    elif result.confirmed and not result.verified:
        notes = hint(
            "The steering detectors count it as right on every view. The judge, a detector of another kind, did not "
            "steer and does not agree: two detectors can differ on one image."
        )
    elif not result.verified and not result.stopped and not ending:
        notes = hint("The time limit ended the run before the steering detectors confirmed the count.")
    if result.recipe["until"] == "judge":
        notes += hint("The judge was asked during this run, so its count is no independent check.")
    return f"<p class='verdict {state}' role='status'>{escape(said)}</p>{notes}"


def verdict(targets: Sequence[Target], counts: Sequence[int]) -> str:
    """Return the judge's counts as one sentence."""
    if set(counts) == {NO_ANSWER}:
        return "The judge gave no answer."
    return f"The judge counts {counts_of(targets, counts)}."


def kept_facts(result: countgen.Result) -> str:
    """Return how much of the baseline a result of the same seed keeps, where the judge detects."""
    if result.objects_kept is None or result.background_change is None:
        return ""
    return fact("Objects kept", f"{100 * result.objects_kept:.0f} %") + fact(
        "Background change", f"{100 * result.background_change:.1f} %"
    )


def size_of(image: Tensor) -> tuple[int, int]:
    """Return the height and the width of an image (3, H, W)."""
    return image.shape[-2], image.shape[-1]


def _count_list(targets: Sequence[Target], counts: Sequence[int]) -> str:
    """Return the steering detector's counts in large digits beside their targets; only a judge's count is right."""
    items = []
    for target, count in zip(targets, counts, strict=True):
        state = "open" if count == target.target_count else ""
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
        first = curve("Steering detector's count", counts, float(goals[0]), f"{counts[-1]:.0f} of {goals[0]}")
    else:
        # A sum of counts would look right where one class has too many objects and the other too few.
        errors = [float(sum(abs(a - b) for a, b in zip(entry.counts, goals, strict=True))) for entry in history]
        first = curve("Sum of count errors", errors, 0.0, f"{errors[-1]:.0f}")
    return f"<div class='curves'>{first}{curve('Loss', [entry.loss for entry in history])}</div>"
