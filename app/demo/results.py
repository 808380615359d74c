"""Finished images of a visitor, and what the page says about them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

import countgen
from countgen.app.demo.form import GenerateForm
from countgen.app.demo.images import boxed, unchanged
from countgen.app.demo.wording import in_words, python_of
from countgen.app.demo.worker import Job
from countgen.app.file_names import slug
from countgen.critics import NO_ANSWER, Detections
from countgen.editing import targets_of
from countgen.files.image_file import decode_image
from countgen.images import png_bytes
from countgen.methods.step import Step
from countgen.prompts import OVERRIDE, Target
from countgen.prompts.plurals import counts_in_words, differences_in_words
from countgen.recipe import plain

PHASES = {"search": "Searching seeds", "refine": "Refining the image"}
NOT_INDEPENDENT = "The judge helped to choose this image, so its count is not an independent check."
STOPPED = "You stopped it: this is the best image so far."


@dataclass(frozen=True)
class Entry:
    """An image that the page can show.

    Attributes:
        png: content of the PNG file, recipe inside.
        recipe, form: of the image, and the settings that it was generated with.
        verdict, notes: the judge's counts as a sentence, and further sentences.
        grade: "right", "wrong", "open" if judge and critics do not agree or the judge gave no answer, or empty.
        facts: seed, method, cost and the token, as Markdown; of an image without a run seed and method.
        detections: the judge's, per target; empty if it counts without detecting.
        before: PNG of the image that this one is compared with; None without one.
        before_label, before_detections: what that image is, with its counts; the judge's detections in it.
        comparable: both images come from one seed, so that unchanged objects have grey boxes.
        baseline: the image of the seed, if the judge finds it right although it was replaced.
    """

    png: bytes
    recipe: Mapping[str, Any]
    form: GenerateForm
    verdict: str
    grade: str = ""
    notes: tuple[str, ...] = ()
    facts: str = ""
    detections: tuple[Detections, ...] = ()
    before: bytes | None = None
    before_label: str = ""
    before_detections: tuple[Detections, ...] = ()
    comparable: bool = False
    baseline: Entry | None = None

    @property
    def targets(self) -> tuple[Target, ...]:
        """The object classes and their target counts."""
        return targets_of(self.recipe)

    @property
    def title(self) -> str:
        """The seed and the targets."""
        return f"seed {self.recipe['candidate_seed']}: {target_list(self.targets)}"

    @property
    def file_name(self) -> str:
        """The name of the PNG."""
        return f"{slug(str(self.recipe['prompt']))}-{self.recipe['candidate_seed']}.png"

    @property
    def python(self) -> str:
        """Code that makes the image again."""
        return python_of(self.recipe, self.file_name)

    @property
    def recipe_text(self) -> str:
        """The recipe as JSON."""
        return json.dumps(dict(self.recipe), indent=1)

    def file(self, folder: Path) -> str:
        """Write the PNG below a folder, and return its path."""
        path = folder / f"{abs(hash(self.png)):x}" / self.file_name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(self.png)
        return str(path)

    def images(self, boxes: bool) -> tuple[Image.Image | None, Image.Image]:
        """Return the image before, if there is one, and the image itself, with or without boxes."""
        detections, before_detections = (self.detections, self.before_detections) if boxes else ((), ())
        same = unchanged(before_detections, detections) if self.comparable else (None, None)
        before = boxed(decode_image(self.before), before_detections, same[0]) if self.before else None
        return before, boxed(decode_image(self.png), detections, same[1])

    @property
    def status(self) -> str:
        """Verdict and notes as HTML."""
        return status(self.verdict, self.grade, self.notes)


@dataclass(eq=False)
class Session:
    """The state of one visitor; no function of the demo reads another visitor's.

    Attributes:
        job: that waits or runs.
        gallery, shown: finished images, newest first; the one on the page, None for the example.
        undo: images that were shown before an edit.
        tokens, boxes: names of uploaded tokens by their SHA-256; whether boxes are shown.
    """

    job: Job | None = None
    gallery: list[Entry] = field(default_factory=list)
    shown: Entry | None = None
    undo: list[Entry] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)
    boxes: bool = True

    def keep(self, entry: Entry, most: int) -> None:
        """Keep a finished image and show it; the oldest images beyond `most` are dropped."""
        self.gallery.insert(0, entry)
        self.shown = entry
        del self.gallery[most:]


def entry_of(run: countgen.Run, form: GenerateForm, *, token: str = "", stopped: bool = False) -> Entry:
    """Return the entry of a run that has ended after at least one step; `stopped` if the visitor ended it."""
    result, names = run.result(), by_name(run.targets)
    silent, edited = NO_ANSWER in result.judge_counts, run.original is not None
    agreed = result.confirmed and result.counts == result.judge_counts
    verdict, notes = f"The judge counts {counts_in_words(result.judge_counts, names)}", []
    if silent:
        notes.append("A judge without an answer says neither that the count is right nor that it is wrong.")
    elif not result.verified:
        verdict += f": {differences_in_words(result.judge_counts, names)}"
        if result.counts == tuple(names.values()):
            notes.append(
                f"The detectors that steer find it {in_words(result.probability)}: detectors can differ. "
                "Try another seed."
            )
        elif not stopped:
            notes.append("Try a longer time limit, or another seed.")
    elif not agreed:
        verdict += ", but the detectors that steer are not sure"
        own = f"{run.models.critics[0].name} counts {' and '.join(map(str, result.counts))}"
        notes.append(f"Not confirmed: {'; '.join(run.doubts(result.image)) or own}.")
    notes += [STOPPED] * stopped + [NOT_INDEPENDENT] * (result.recipe["until"] == "judge")
    notes += [f"It ended early: {result.stopped}"] * bool(result.stopped)

    before_counts = list(map(len, result.before_detections))
    baseline, replaced = None, result.before is not result.image
    if why := run.why_replaced(result):
        notes.append(f"The baseline was right by the judge already. {why}")
        recipe = plain(result.recipe) | {"judge_counts": before_counts}
        verdict_before = f"The judge counts {counts_in_words(before_counts, names)}."
        notes_before, boxes = ("The baseline.", why), result.before_detections
        png = png_bytes(result.before, recipe)
        baseline = Entry(png, recipe, form, verdict_before, "open", notes_before, facts_of(recipe), boxes)
    facts = [f"Seed {result.recipe['candidate_seed']}"]
    if result.recipe["candidate_seed"] != result.seed:
        facts[0] += f" (the search began at {result.seed})"
    facts += [f"Method: {result.method}", f"{result.seconds:.1f} s, {result.evaluations} images evaluated"]
    facts.append(f"The detectors that steer find it {in_words(result.probability)}")
    facts += [f"Token: {token}"] * bool(token)
    comparable = replaced and result.recipe["candidate_seed"] == result.seed
    if comparable and result.objects_kept is not None:
        facts.append(f"{result.objects_kept:.0%} of the objects kept")
    counts = [f"{count} of {wanted}" for count, wanted in zip(before_counts, names.values(), strict=False)]
    return Entry(
        png=png_bytes(result.image, result.recipe),
        recipe=result.recipe,
        form=form,
        grade="open" if silent or (result.verified and not agreed) else "right" if result.verified else "wrong",
        verdict=f"{verdict}.",
        notes=tuple(notes),
        facts=" · ".join(facts),
        detections=result.detections,
        before=png_bytes(result.before) if replaced else None,
        before_label="Before" if edited else ": ".join(["Baseline", ", ".join(counts)][: 1 + bool(counts)]),
        before_detections=result.before_detections,
        comparable=comparable,
        baseline=baseline,
    )


def facts_of(recipe: Mapping[str, Any]) -> str:
    """Return what the recipe alone says of how an image was made, as Markdown."""
    return f"Seed {recipe['candidate_seed']} · Method: {recipe['method']}"


def live(run: countgen.Run, step: Step, max_seconds: float, title: str) -> str:
    """Return what is known of a run in progress, as HTML."""
    left = f"{step.seconds:.1f} s of at most {max_seconds:g} s"
    phase = PHASES.get(step.phase, "Changing the objects that are undecided")
    counts = escape(counts_in_words(step.counts, by_name(run.targets)))
    sure = ", confirmed" if step.confirmed else ""
    return f"<div class='live'><p class='verdict'>{counts}{sure}</p><p class='hint'>{title}{phase} · {left}</p></div>"


def status(sentence: str, grade: str = "", notes: Sequence[str] = ()) -> str:
    """Return a sentence with notes below it, as HTML that screen readers announce."""
    hints = "".join(f"<p class='hint'>{escape(note)}</p>" for note in notes)
    return f"<div role='status'><p class='verdict {grade}'>{escape(sentence)}</p>{hints}</div>"


def sentence(message: object) -> str:
    """Return an error message as an escaped sentence, without the advice that is for the command line."""
    text = " ".join(str(message).replace(f", or {OVERRIDE}", "").split())
    return escape(text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."), quote=False)


def by_name(targets: Sequence[Target]) -> dict[str, int]:
    """Return target counts by object name."""
    return {target.object_name: target.target_count for target in targets}


def target_list(targets: Sequence[Target]) -> str:
    """Return the targets of a prompt as text, for example "7 × apple, 2 × dog"."""
    return ", ".join(f"{target.target_count} × {target.object_name}" for target in targets)
