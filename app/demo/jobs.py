"""What the page and the API have in common: checks of the input, and the runs of images and edits."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

import countgen
from countgen.app.demo.form import RANDOM_SEED, GenerateForm, UploadedTokens, find_token, form_of
from countgen.app.demo.images import detect
from countgen.app.demo.limits import SURE, LimitError, Limits, choice
from countgen.app.demo.results import Entry, by_name, facts_of, sentence, target_list
from countgen.app.demo.worker import Job, Worker
from countgen.critics import Detections
from countgen.critics.validation import to_batch
from countgen.critics.vocabulary import singular
from countgen.editing import edit_run, targets_of
from countgen.errors import CountGenError, RecipeError
from countgen.files.image_file import decode_image
from countgen.images import png_bytes, read_recipe
from countgen.models import Models
from countgen.prompts import Prompt, read
from countgen.prompts.plurals import counts_in_words
from countgen.recipe import check as check_recipe
from countgen.recipe import regenerate
from countgen.tokens.file import CountToken

EXAMPLE_FILE = Path(__file__).with_name("example.png")
"""`countgen generate "a photo of seven apples" --method edit --seed 199 --max-evaluations 100`."""

SECONDS_OF_COUNT = 5.0
"""What counting in an image takes at most, for those who wait behind it."""


@contextmanager
def errors_shown() -> Iterator[None]:
    """Turn errors about bad input into messages on the page; others are faults and belong in the server's log."""
    try:
        yield
    except (CountGenError, ValueError) as error:
        raise gr.Error(sentence(error), print_exception=False) from None


class Jobs:
    """Checks what a visitor asks for, and does it; methods that need models run in the worker's thread."""

    def __init__(self, limits: Limits, worker: Worker) -> None:
        self.limits, self.worker, self.tokens = limits, worker, UploadedTokens()
        recipe = read_recipe(EXAMPLE_FILE)
        note = "An example, made before. Type a prompt, or change the number of this image."
        verdict = f"The judge counts {counts_in_words(recipe['judge_counts'], by_name(targets_of(recipe)))}."
        form, png = form_of(recipe, self.tokens), EXAMPLE_FILE.read_bytes()
        self.example = Entry(png, recipe, form, verdict, "right", (note,), facts_of(recipe))

    def read(self, text: object, backbone: object) -> Prompt:
        """Return a prompt whose targets are within the limits, and which the model, once it is loaded, can count."""
        checked = self.limits.check_prompt(text)
        models = self.worker.loaded.get(str(choice(backbone, self.limits.backbones, "model")))
        prompt = read(checked, models.critics[0].object_names if models else None)
        for target in prompt.targets:
            self.limits.check_count(target.target_count)
        if models:
            models.check(prompt.targets)
        return prompt

    def models(self, form: GenerateForm) -> Models:
        """Return the models of a form's backbone with its sampler settings."""
        steps = self.limits.check_inference_steps(form.num_inference_steps)
        guidance = self.limits.check_guidance(form.guidance_scale)
        return self.worker.models(form.backbone, num_inference_steps=steps, guidance_scale=guidance)

    def run(self, form: GenerateForm, offset: int = 0) -> countgen.Run:
        """Return the run of one image of a checked form; `offset` is its number, counted from 0."""
        models = self.models(form)
        with errors_shown():
            prompt = self.read(form.prompt, form.backbone)
            return countgen.Run(
                prompt,
                models,
                method=form.method,
                settings=form.method_settings(self.limits),
                token=find_token(form.token, prompt.targets, form.backbone, self.tokens),
                seed=form.seed + offset,
                max_seconds=form.seconds,
                until=form.until,
                sure=SURE[form.sure],
                negative_prompt=form.negative_prompt or None,
            )

    def recipe(self, content: bytes) -> dict[str, Any]:
        """Return the recipe inside a PNG, if it names a model of this page, and values within the limits."""
        try:
            recipe = read_recipe(io.BytesIO(content))
        except RecipeError as error:
            raise LimitError(
                "This file holds no recipe. Give a PNG that countgen saved; editors and messengers drop the recipe."
            ) from error
        form = form_of(recipe, self.tokens)
        replace(form, seconds=self.limits.seconds[0]).checked(self.limits)
        check_recipe(recipe, token=self.token_of(recipe, form))
        return recipe

    def token_of(self, recipe: Mapping[str, Any], form: GenerateForm) -> CountToken | None:
        """Return the token that an image was generated with."""
        return find_token(form.token, targets_of(recipe), form.backbone, self.tokens)

    def opened(self, recipe: Mapping[str, Any]) -> Entry:
        """Return the entry of an image, generated again from its checked recipe."""
        form = form_of(recipe, self.tokens)
        models, targets, token = self.models(form), targets_of(recipe), self.token_of(recipe, form)
        with errors_shown():
            models.check(targets)
            image = regenerate(recipe, models.backbone, token)
        detections, names = detect(models.required_judge, image, targets), by_name(targets)
        counts = counts_in_words(models.required_judge.counts(image[None], list(names))[0].tolist(), names)
        verdict, notes = f"Opened: {target_list(targets)}. The judge counts {counts}.", ("The form has its settings.",)
        png = png_bytes(image, recipe)
        return Entry(png, recipe, form, verdict, notes=notes, facts=facts_of(recipe), detections=detections)

    def edit(self, recipe: Mapping[str, Any], counts: Mapping[str, int], seconds: int, until: str) -> countgen.Run:
        """Return the run that changes the counts of an image with a checked recipe; `counts` are checked."""
        form = form_of(recipe, self.tokens)
        models = self.models(form)
        with errors_shown():
            token = self.token_of(recipe, form)
            return edit_run(recipe, models, counts=counts, token=token, max_seconds=seconds, until=until)

    def detected(self, content: bytes, names: object, detector: object) -> tuple[Image.Image, tuple[Detections, ...]]:
        """Return an image and the detections in it, one entry per object name of a text such as "person, bus"."""
        with errors_shown():
            text = names if isinstance(names, str) else ""
            wanted = [singular(name.strip()) for name in text.split(",") if name.strip()]
            wanted = list(self.limits.check_object_names(wanted))
            chosen = str(choice(detector, self.limits.detectors, "detector"))
            image = decode_image(content, "This file", self.limits.max_image_pixels)
            critic = self.worker.detector(chosen)
            critic.check_distinct(wanted)
        return image, critic.detect(to_batch(image), wanted)[0]


def edited_form(form: GenerateForm, run: countgen.Run) -> GenerateForm:
    """Return the form of an edited image: another prompt, the method "edit", no token."""
    seed = run.seed if run.seed < 2**32 else RANDOM_SEED
    return replace(form, prompt=run.prompt.given, method="edit", token="none", settings="", images=1, seed=seed)


def steps_shown(run: countgen.Run, job: Job, seconds: float) -> Iterator[countgen.Step]:
    """Iterate over a run until it ends or is stopped, and yield a step at most every `seconds`."""
    job.run, shown = run, -math.inf
    for step in run if not job.stopping else ():  # the caller may leave while the models are loaded
        if job.stopping:
            return
        if time.monotonic() - shown >= seconds:
            yield step
            shown = time.monotonic()
