"""The demo's functions for programs: each returns one JSON object with the image as base64 PNG.

They keep no session: nothing that a call returns is on the server afterwards. docs/demo.md shows their use.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Generator, Sequence
from dataclasses import asdict
from typing import Any

import gradio as gr

import countgen
from countgen.app.demo.form import GenerateForm
from countgen.app.demo.jobs import SECONDS_OF_COUNT, Jobs, errors_shown, steps_shown
from countgen.app.demo.limits import LimitError
from countgen.app.demo.results import by_name
from countgen.app.demo.worker import Job
from countgen.app.result_lines import boxes_of
from countgen.critics import NO_ANSWER
from countgen.images import png_bytes
from countgen.prompts import targets_from

SECONDS_BETWEEN_REPORTS = 0.5
RESULT_FIELDS = "verified probability confirmed seed method objects_kept background_change evaluations recipe".split()
"""Attributes of a result that a call returns as they are."""

Reports = Generator[dict[str, Any], None, None]


class Api:
    """Adds `/generate`, `/edit` and `/count` to the page that is being built."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs, self.limits = jobs, jobs.limits
        for function in (self.generate, self.edit, self.count):
            gr.api(function, api_name=function.__name__, concurrency_limit=None)

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
        sure: str = "sure",
        request: gr.Request = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """Generate an image with the number of objects that the prompt asks for.

        Progress is reported while it runs; the last object has the image (PNG as base64, recipe inside), the counts of
        the first critic and of the judge (null for no answer), the judge's boxes, the seed and the recipe.
        """
        sampling = negative_prompt, num_inference_steps, guidance_scale, settings, sure
        with errors_shown():
            form = GenerateForm(prompt, backbone, method, token, seed, seconds, until, 1, *sampling)
            form = form.checked(self.limits)
            self.jobs.read(form.prompt, form.backbone)
        job = Job(request.client.host, form.seconds)
        async for report in self._reports(job, self._reported(lambda: self.jobs.run(form), job)):
            yield report

    async def edit(
        self, image: str, counts: str, seconds: int = 5, until: str = "critic", request: gr.Request = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Change the count of an image of countgen and keep the rest of it.

        `image` is the PNG as base64, at most 1 MiB; `counts` is for example "apple=7". Returns the same object as
        /generate.
        """
        with errors_shown():
            recipe = self.jobs.recipe(self._decoded(image))
            limit, end = self.limits.check_end(seconds, until)
            targets = targets_from(self.limits.check_prompt(counts))
            wanted = {target.object_name: self.limits.check_count(target.target_count) for target in targets}
        job = Job(request.client.host, limit)
        async for report in self._reports(job, self._reported(lambda: self.jobs.edit(recipe, wanted, limit, end), job)):
            yield report

    async def count(
        self, image: str, objects: str = "person", detector: str = "nanodet", request: gr.Request = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Count objects in an image: base64, at most 1 MiB.

        `objects` names one or several, separated by commas. Returns counts and boxes by object name.
        """
        with errors_shown():
            content = self._decoded(image)

        def counted() -> Reports:
            shown, detections = self.jobs.detected(content, objects, detector)
            yield {
                "detector": detector,
                "width": shown.width,
                "height": shown.height,
                "counts": {one.object_name: len(one) for one in detections},
                "boxes": boxes_of(detections),
            }

        async for report in self._reports(Job(request.client.host, SECONDS_OF_COUNT), counted()):
            yield report

    async def _reports(self, job: Job, reports: Reports) -> AsyncIterator[dict[str, Any]]:
        with errors_shown():
            async for item in self.jobs.worker.run(job, reports):
                yield {"finished": False, "waiting": item} if isinstance(item, str) else item

    def _decoded(self, data: object) -> bytes:
        """Return the content of a file that was sent as base64, with or without the beginning of a data URI."""
        most = self.limits.max_call_bytes
        if not isinstance(data, str) or len(data) > 4 * (most // 3 + 20):
            raise LimitError(f"Give the image as base64 of at most {most // 1024} KiB.")
        try:
            return base64.b64decode(data.partition(",")[2] if data.startswith("data:") else data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise LimitError("The image is not base64.") from error

    def _reported(self, begin: Any, job: Job) -> Reports:
        """Yield the progress of a run now and then, and its result unless the caller has left."""
        run = begin()
        for step in steps_shown(run, job, SECONDS_BETWEEN_REPORTS):
            yield {
                "finished": False,
                "counts": _named(run, step.counts),
                "evaluations": step.evaluations,
                "seconds": round(step.seconds, 3),
            }
        if job.stopping:
            return
        result = run.result()
        yield {
            "finished": True,
            "image": base64.b64encode(png_bytes(result.image, result.recipe)).decode("ascii"),
            "targets": [asdict(target) for target in result.targets],
            "counts": _named(run, result.counts),
            "judge": run.models.required_judge.name,
            "judge_counts": _named(run, [None if count == NO_ANSWER else count for count in result.judge_counts]),
            "boxes": boxes_of(result.detections),
            "seconds": round(result.seconds, 3),
            **{name: getattr(result, name) for name in RESULT_FIELDS},
        }


def _named(run: countgen.Run, counts: Sequence[int | None]) -> dict[str, int | None]:
    return dict(zip(by_name(run.targets), counts, strict=True))
