"""What the server does with a request: steer a prompt that counts objects, and pass on any other one."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Generator
from typing import Any

import torch

import countgen
from countgen import recipe
from countgen.app.arguments import Serve
from countgen.app.demo.limits import Limits
from countgen.app.demo.worker import Job, Worker
from countgen.app.serve.interface import ImagesRequest, RequestError
from countgen.backbones.low_memory import retry_with_low_memory
from countgen.critics import NO_ANSWER
from countgen.errors import PromptError
from countgen.images import png_bytes
from countgen.methods.step import SEARCH, Step
from countgen.models import Models
from countgen.number_slider import load_calibration
from countgen.options import Options
from countgen.prompts import MAX_PROMPT_LENGTH, Prompt

Image = dict[str, Any]
"""One entry of an answer's `data`."""


class Gateway:
    """Turns requests into images, in the thread of a `Worker`.

    Args:
        models: loaded ones.
        command: its limits and its calibration.

    Attributes:
        name: of the model.
        worker: its queue.
        seconds_per_job: about how long a request takes, without waiting.
    """

    def __init__(self, models: Models, command: Serve) -> None:
        self.name, self._command = models.backbone.name, command
        limits = Limits(backbones=(self.name,), max_jobs=command.queue, max_jobs_of_client=command.queue)
        self.worker = Worker(limits, {self.name: models})
        self.seconds_per_job = 1.0
        self._own = models.backbone
        self._calibration = load_calibration(command.calibration) if command.calibration else None
        if self._calibration is not None:
            self._calibration.check(models.backbone)

    def job(self, client: str, request: ImagesRequest) -> Job:
        """Return the job of a request, which is not begun.

        Raises:
            RequestError: another model, or a value beyond the limits.
        """
        if request.model not in (None, self.name):
            raise RequestError(404, f"this server has the model {self.name!r}", "model", "model_not_found")
        width, height = self._size(request)
        if width * height > self._own.width * self._own.height:
            most = f"{self._own.width}x{self._own.height}"
            raise RequestError(400, f"the size is at most {most} pixels here; leave it out for that", "size")
        if request.max_evaluations is not None and request.max_evaluations > self._command.max_evaluations:
            most = f"max_evaluations is at most {self._command.max_evaluations} here"
            raise RequestError(400, most, "max_evaluations")
        return Job(client, self._command.max_seconds * request.n, request.n)

    def images(self, request: ImagesRequest, job: Job) -> Generator[Image, None, None]:
        """Yield the images of a request as they are finished; nothing more after the job is stopped.

        Raises:
            RequestError: `strict`, and a count that is not confirmed.
            ValueError: a value that the model or the method does not take.
        """
        width, height = self._size(request)
        sampling = {"num_inference_steps": request.num_inference_steps, "guidance_scale": request.guidance_scale}
        models = self.worker.models(self.name, **sampling, width=width, height=height)
        reason = None
        try:
            prompt = models.read(request.prompt)
        except PromptError as error:
            reason = str(error)
        first = secrets.randbelow(2**32) if request.seed is None else request.seed
        for number in range(request.n):
            if job.stopping:
                return
            seed = (first + number) % 2**32
            image = self._plain(models, request, seed) if reason else self._steered(models, request, prompt, seed, job)
            if request.strict and not image["confirmed"]:
                told = reason or f"the judge counts {image['counts']}, P(right) is {image['probability']}"
                raise RequestError(422, f"not confirmed: {told}", "strict", "not_confirmed")
            yield image | {"reason": reason}
        self.seconds_per_job += 0.1 * (time.monotonic() - (job.began or 0.0) - self.seconds_per_job)

    def _steered(self, models: Models, request: ImagesRequest, prompt: Prompt, seed: int, job: Job) -> Image:
        job.run = countgen.Run(prompt, models, self._options(request, seed))
        result = job.run.finish()
        judged = result.judge_counts or result.counts
        names = [target.object_name for target in result.targets]
        return {
            "b64_json": _encoded(result.image, result.recipe),
            "counts": {name: None if n == NO_ANSWER else n for name, n in zip(names, judged, strict=True)},
            "verified": result.verified,
            "probability": round(result.probability, 4),
            "confirmed": result.confirmed,
            "evaluations": result.evaluations,
            "seed": seed,
        }

    @torch.no_grad()
    def _plain(self, models: Models, request: ImagesRequest, seed: int) -> Image:
        backbone = models.backbone
        embeds = backbone.encode_prompt(request.prompt, request.negative_prompt)
        latents = backbone.initial_latents([seed])
        images, _ = retry_with_low_memory(backbone, lambda: backbone.render_in_parts(latents, embeds, [seed]))
        written = None
        if len(request.prompt) <= MAX_PROMPT_LENGTH:  # as a recipe holds it
            step = Step(0, SEARCH, seed, 0.0, (), (), 0.0, 0.0, False, images[0], latents[0], 1, 0.0)
            options = self._options(request, seed, "plain")
            written = recipe.write(Prompt(request.prompt), models, options, seed, (), step, ())
        unknown = dict.fromkeys(("counts", "verified", "probability"))
        return unknown | {
            "b64_json": _encoded(images[0], written),
            "confirmed": False,
            "evaluations": 1,
            "seed": seed,
        }

    def _options(self, request: ImagesRequest, seed: int, method: str | None = None) -> Options:
        method = method or request.method
        return Options(
            method=method,
            settings=countgen.methods.load(method).settings_class(),
            seed=seed,
            max_seconds=self._command.max_seconds,
            max_evaluations=request.max_evaluations or self._command.max_evaluations,
            sure=request.sure or self._command.sure,
            negative_prompt=request.negative_prompt,
            calibration=self._calibration,
        )

    def _size(self, request: ImagesRequest) -> tuple[int, int]:
        if request.size == "auto":
            return self._own.width, self._own.height
        width, _, height = request.size.partition("x")
        return int(width), int(height)


def _encoded(image: torch.Tensor, written: dict[str, Any] | None) -> str:
    return base64.b64encode(png_bytes(image, written)).decode("ascii")
