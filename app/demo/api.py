"""The demo's functions for programs: each returns one JSON object with the image as base64 PNG.

They keep no session: nothing that a call returns is on the server afterwards. docs/demo.md shows their use.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import gradio as gr

import countgen
from countgen.app.demo.count_tab import CountTab
from countgen.app.demo.edit_tab import EditTab
from countgen.app.demo.generate_form import GenerateForm
from countgen.app.demo.generate_tab import GenerateTab
from countgen.app.demo.image_html import png_bytes
from countgen.app.demo.job_queue import MODELS
from countgen.app.demo.limits import Limits, RefusedError
from countgen.app.demo.refusals import errors_shown
from countgen.app.demo.session import Session
from countgen.app.demo.uploads import decoded_recipe
from countgen.critics import NO_ANSWER, Detections
from countgen.editing import edit_run
from countgen.prompts import targets_from
from countgen.recipe import check as check_recipe

SECONDS_BETWEEN_REPORTS = 0.5


class Api:
    """Adds `/generate`, `/count` and `/edit` to the page that is being built."""

    def __init__(self, limits: Limits, generate_tab: GenerateTab, edit_tab: EditTab, count_tab: CountTab) -> None:
        self.limits, self.generate_tab, self.edit_tab, self.count_tab = limits, generate_tab, edit_tab, count_tab
        for function in (self.generate, self.edit, self.count):
            gr.api(function, api_name=function.__name__, **MODELS)

    async def generate(
        self,
        prompt: str,
        backbone: str = "miniature",
        method: str = "auto",
        token: str = "none",
        seed: int = -1,
        seconds: int = 5,
        until: str = "critic",
        negative_prompt: str = "",
        num_inference_steps: int = 0,
        guidance_scale: float | None = None,
        settings: str = "",
    ) -> AsyncIterator[dict[str, Any]]:
        """Generate an image with the number of objects that the prompt asks for.

        Progress is reported while it runs; the last object has the image (PNG as base64, recipe inside), the counts of
        the steering detector and of the judge (null for no answer), the judge's boxes, the seed and the recipe.
        """
        with errors_shown():
            form = GenerateForm(
                prompt,
                backbone,
                method,
                token,
                seed,
                seconds,
                until,
                1,
                negative_prompt,
                num_inference_steps,
                guidance_scale,
                settings,
            ).checked(self.limits)
        session = Session(busy=True)
        async for report in self.generate_tab.model_cache.run_in_worker(self._generated(form, session), session):
            yield report

    def _generated(self, form: GenerateForm, session: Session) -> Generator[dict[str, Any], None, None]:
        cache = self.generate_tab.model_cache
        models = cache.sampled(form.backbone, *form.sampling(self.limits))
        with errors_shown():
            targets = self.generate_tab.targets(form.prompt, form.backbone)
            run = form.run(models, targets, session, self.limits)
        yield from _reported(run, session)

    async def edit(
        self, image: str, counts: str, seconds: int = 5, until: str = "critic"
    ) -> AsyncIterator[dict[str, Any]]:
        """Change the count of an image of countgen and keep the rest of it.

        `image` is the PNG as base64, at most 1 MiB; `counts` is for example "apple=7". Returns the same object as
        /generate.
        """
        with errors_shown():
            recipe = decoded_recipe(image, self.limits.max_image_bytes)
            limit, end = self.limits.check_seconds(seconds), self.limits.check_until(until)
            self.limits.check_backbone(recipe.get("backbone"))
            if not isinstance(counts, str) or len(counts) > self.limits.max_prompt_length:
                raise RefusedError('Give counts as text, for example "apple=7".')
            wanted = {
                target.object_name: self.limits.check_count(target.target_count) for target in targets_from(counts)
            }
            if recipe.get("token") is not None:
                raise RefusedError("This image was generated with a count token; edit it with countgen edit --token.")
            check_recipe(recipe)
        session = Session(busy=True)
        job = self._edited(recipe, wanted, limit, end, session)
        async for report in self.edit_tab.model_cache.run_in_worker(job, session):
            yield report

    def _edited(
        self, recipe: Mapping[str, Any], counts: Mapping[str, int], seconds: int, until: str, session: Session
    ) -> Generator[dict[str, Any], None, None]:
        with errors_shown():
            models = self.edit_tab.models_of(recipe)
            run = edit_run(recipe, models, counts=counts, max_seconds=seconds, until=until)
        yield from _reported(run, session)

    def count(self, image: str, objects: str = "person", detector: str = "nanodet") -> dict[str, Any]:
        """Count objects in an image: PNG, JPEG or WebP as base64, at most 1 MiB and four megapixels.

        `objects` names one or several, separated by commas. Returns counts and boxes by object name.
        """
        picture, found = self.count_tab.counted(image, objects, detector)
        return {
            "detector": detector,
            "width": picture.width,
            "height": picture.height,
            "counts": {one.object_name: len(one) for one in found},
            "boxes": _boxes(found),
        }


def _reported(run: countgen.Run, session: Session) -> Iterator[dict[str, Any]]:
    """Yield the progress of a run now and then, and its result unless the caller has left."""
    session.run = run
    steps: Iterable[countgen.Step] = () if session.stopping else run  # the caller may leave during loading
    shown = 0.0
    for step in steps:
        if step.seconds - shown >= SECONDS_BETWEEN_REPORTS:
            shown = step.seconds
            yield {
                "finished": False,
                "counts": _by_name(run, step.counts),
                "evaluations": step.evaluations,
                "seconds": round(step.seconds, 3),
            }
    if session.stopping:
        return
    result = run.result()
    yield {
        "finished": True,
        "image": base64.b64encode(png_bytes(result.image, result.recipe)).decode("ascii"),
        "targets": [asdict(target) for target in result.targets],
        "counts": _by_name(run, result.counts),
        "judge": run.models.required_judge.name,
        "judge_counts": _by_name(run, [None if count == NO_ANSWER else count for count in result.judge_counts]),
        "verified": result.verified,
        "confirmed": result.confirmed,
        "boxes": _boxes(result.detections),
        "seed": result.seed,
        "method": result.method,
        "objects_kept": result.objects_kept,
        "background_change": result.background_change,
        "evaluations": result.evaluations,
        "seconds": round(result.seconds, 3),
        "recipe": result.recipe,
    }


def _by_name(run: countgen.Run, counts: Sequence[int | None]) -> dict[str, int | None]:
    return {target.object_name: count for target, count in zip(run.targets, counts, strict=True)}


def _boxes(detections: Sequence[Detections]) -> dict[str, list[dict[str, Any]]]:
    """Return boxes (absolute-pixel xyxy) and scores by object name."""
    return {
        one.object_name: [
            {"box": [round(value, 1) for value in box], "score": round(score, 4)}
            for box, score in zip(one.boxes.tolist(), one.scores.tolist(), strict=True)
        ]
        for one in detections
    }
