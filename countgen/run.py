"""Run a method on a prompt, and return its best image with what the critics and the judge count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from countgen import methods, recipe
from countgen.backbones import PromptEmbeds
from countgen.backbones.low_memory import retry_with_low_memory
from countgen.critics import Detections
from countgen.errors import StoppedError, StopRequestedError
from countgen.image_preservation import background_change, objects_kept, structural_similarity
from countgen.methods.problem import Problem
from countgen.methods.settings import Settings
from countgen.methods.step import Budget, Step
from countgen.models import Models
from countgen.number_slider import Calibration, encode_shifted, find_calibration
from countgen.number_slider.shifts import NumberOffset, calibrated_shifts, offset_shifts
from countgen.progress import followed
from countgen.prompts import Target, check_prompt, parse
from countgen.prompts.placeholders import PLACEHOLDER, with_placeholder
from countgen.prompts.truncation import check_is_read
from countgen.result import Result
from countgen.tokens.file import CountToken
from countgen.tokens.textual_inversion import check_token, encode_prompt

UNTIL = ("critic", "judge")
DEFAULT_MAX_EVALUATIONS = 400


@dataclass(frozen=True)
class Original:
    """An image that an edit starts from, in place of the plain image of a seed.

    Attributes:
        latents: float (1, C, h, w).
        image: RGB float (3, H, W) in [0, 1], rendered from them with the prompt that it was generated with.
    """

    latents: Tensor
    image: Tensor


class Run:
    """The generation of one image: iterate over it for its `Step`s, leave the loop at any time, then call `result`.

    `stop` ends the iteration from another thread.

    Args:
        prompt: for example "a photo of seven apples".
        models: from `countgen.load`.
        targets: object classes and counts; read from the prompt by default.
        method: one of `countgen.methods.available()`: "plain" (one seed, nothing tuned), "search" (best of N
            seeds), "noise" (gradients on one seed after the other), "lmn" (the same through D2D's latent modifier
            network), "auto" (search, then gradients on the nearest) or "edit" (one seed, its image kept).
        settings: of the method, for example `NoiseSettings(learning_rate=0.1)`; its defaults where None.
        seed: 0 or above; the same seed and budget in evaluations give the same image.
        max_seconds, max_evaluations: the budget; 400 evaluations where neither is given.
        until: "critic" stops when the critics confirm the count. "judge" also evaluates the judge and continues
            until it agrees; the judge is then not independent, and the recipe records this.
        token: a learned token that replaces the number it was trained for.
        original: an image that the method "edit" starts from; by default it starts from the seed's own.
        number_offset: objects by which the prompt embeddings are moved along the number axis, one number for every
            object class or a mapping by its name, 0 for one that it lacks; 0 is the prompt as written. Where None,
            calibrated methods (search, auto, edit) without a token move counts beyond the model's number words as its
            calibration says, see `shifts` and `countgen.methods.registry.Method`.
        calibration: of the number axis, from `countgen.number_slider.load_calibration`; the shipped one where None.
        negative_prompt: what the image shall not show, as in diffusers; for models that use guidance.

    Attributes:
        shifts: moves of the prompt embeddings along the number axis, per object class; usually empty.

    Raises:
        PromptError: the prompt has no clear count, or only beyond the part that the backbone's text encoder reads, or
            no number for the offset to move.
        TokenFileError: a token of another backbone.
        ValueError: an unknown method, settings of another method, an object that a detector does not know, a number
            offset beyond the calibrated range, or a token and a number offset.
    """

    def __init__(
        self,
        prompt: str,
        models: Models,
        *,
        targets: tuple[Target, ...] | None = None,
        method: str = "auto",
        settings: Settings | None = None,
        seed: int = 0,
        max_seconds: float | None = None,
        max_evaluations: int | None = None,
        until: str = "critic",
        token: CountToken | None = None,
        original: Original | None = None,
        number_offset: NumberOffset | None = None,
        calibration: Calibration | None = None,
        negative_prompt: str | None = None,
    ) -> None:
        self._method = methods.load(method)
        if settings is not None and type(settings) is not self._method.settings_class:
            raise ValueError(
                f"method {method!r} takes {self._method.settings_class.__name__}, got {type(settings).__name__}"
            )
        if until not in UNTIL:
            raise ValueError(f"until must be one of {', '.join(UNTIL)}, got {until!r}")
        if original is not None and not self._method.starts_from_image:
            raise ValueError(f"method {method!r} cannot start from an image; give method='edit'")
        # The seed of an image that a search found may be far above the seed that was given.
        if type(seed) is not int or not 0 <= seed < (2**32 if original is None else 2**63):
            raise ValueError(f"seed must be a whole number from 0 to 2**32 - 1, got {seed!r}")
        if max_seconds is None and max_evaluations is None:
            max_evaluations = DEFAULT_MAX_EVALUATIONS
        Budget(max_seconds, max_evaluations)
        check_prompt(prompt)
        known_names = models.critics[0].object_names
        self.targets = targets or parse(prompt, known_names)
        models.check(self.targets)
        check_is_read(prompt, self.targets, models.backbone.pipeline, known_names)
        placeholder = PLACEHOLDER.search(prompt)
        if token is not None:
            check_token(token, models.backbone)
            with_placeholder(prompt, token.target_count)
        elif placeholder:
            raise ValueError(
                f"the prompt contains {placeholder[0]}: give that token too, or write the number as a word"
            )
        calibration = self._checked(calibration, models)
        if number_offset and token is not None:
            raise ValueError("a token and a number offset exclude each other: give one of them")
        if number_offset is not None:
            self.shifts = offset_shifts(prompt, self.targets, known_names, calibration, number_offset)
        elif calibration is not None and token is None and self._method.calibrated:
            self.shifts = calibrated_shifts(prompt, self.targets, known_names, calibration)
        else:
            self.shifts = ()
        if negative_prompt:
            check_prompt(negative_prompt)
        if negative_prompt is not None:
            models.backbone.check_negative_prompt(negative_prompt)
        self.prompt = prompt
        self.negative_prompt = negative_prompt
        self.token = token
        self.original = original
        self.models = models
        self.method = method
        self.settings = settings or self._method.settings_class()
        self.seed = seed
        self.until = until
        self.limits = (max_seconds, max_evaluations)
        self.best: Step | None = None
        self.last: Step | None = None
        self.stopped: str | None = None
        self._accepted: Step | None = None
        self._begun = self._stop_requested = False

    def __iter__(self) -> Iterator[Step]:
        if self._begun:
            raise RuntimeError("this run was iterated over already; create another Run to generate again")
        self._begun = True
        budget = Budget(*self.limits, stop_requested=lambda: self._stop_requested and self.best is not None)
        models = self.models
        latents = None if self.original is None else self.original.latents
        problem = Problem(
            models.backbone, models.critics, self.targets, self._embeds, self._accept, latents, models.graphs
        )
        try:
            for step in self._method.function(problem, self.seed, budget, self.settings):
                self.last = step
                # An accepted step is the result, even if an earlier one ranks higher.
                if step is self._accepted or self.best is None or step.rank > self.best.rank:
                    self.best = step
                yield step
                if self._stop_requested:
                    return
        except StopRequestedError:
            return
        except (StoppedError, torch.OutOfMemoryError) as error:
            if self.best is None:
                raise
            self.stopped = str(error)

    def stop(self) -> None:
        """End the iteration as soon as the forward or backward pass in progress ends; any thread may call this.

        The evaluation in progress is lost, `result` returns the best candidate before it. Without any candidate yet,
        the iteration ends after its first step.
        """
        self._stop_requested = True

    def with_progress(self, label: str | None = None) -> Iterator[Step]:
        """Iterate, and show on standard error the counts, the loss and how much of the budget is spent.

        Args:
            label: at the beginning of the line; the seed by default.
        """
        return followed(self, label=label or f"seed {self.seed}", targets=self.targets, limits=self.limits)

    @staticmethod
    def _checked(calibration: Calibration | None, models: Models) -> Calibration | None:
        """Return the calibration to use: the one given, if it is complete and of this model, or the shipped one."""
        if calibration is None:
            return find_calibration(models.backbone)
        calibration.check(models.backbone)
        return calibration

    @cached_property
    def _embeds(self) -> PromptEmbeds:
        backbone = self.models.backbone
        with torch.no_grad():
            return retry_with_low_memory(
                backbone,
                lambda: encode_shifted(backbone, self.prompt, self.token, self.shifts, self.negative_prompt),
                self.models.graphs.release,
            )

    def _accept(self, step: Step) -> bool:
        if not step.confirmed or (self.until == "judge" and self._judge(step.image) != self._target_counts):
            return False
        self._accepted = step
        return True

    @property
    def _target_counts(self) -> tuple[int, ...]:
        return tuple(target.target_count for target in self.targets)

    @property
    def _object_names(self) -> list[str]:
        return [target.object_name for target in self.targets]

    def _judge(self, image: Tensor) -> tuple[int, ...]:
        return tuple(self.models.judge.counts(image[None], self._object_names)[0].tolist())

    def _detect(self, image: Tensor) -> tuple[Detections, ...]:
        judge = self.models.judge
        return judge.detect(image, self._object_names)[0] if judge.detects else ()

    def _image_before(self, image: Tensor, best: Step) -> Tensor:
        """Return the original of an edit, or the plain image of the seed; `image` where the best candidate is that."""
        if self.original is not None:
            return self.original.image
        backbone = self.models.backbone
        latents = backbone.initial_latents([self.seed])
        changed = self.token or self.shifts
        if not changed and best.seed == self.seed and torch.equal(best.latents, latents[0]):
            return image
        embeds = encode_prompt(backbone, self.prompt, None, self.negative_prompt)
        return backbone.render(latents, embeds, [self.seed])[0]

    def result(self) -> Result:
        """Return the best candidate so far with the judge's counts.

        Raises:
            RuntimeError: no candidate has been evaluated yet.
        """
        if self.best is None or self.last is None:
            raise RuntimeError("nothing is generated yet: iterate over the run first")
        backbone = self.models.backbone
        with torch.no_grad():
            # Rendered alone, as `countgen.recipe.regenerate` will: within a batch, rounding differs.
            image = backbone.render(self.best.latents[None], self._embeds, [self.best.seed])[0]
            before = self._image_before(image, self.best)
        detections = self._detect(image)
        judge_counts = tuple(map(len, detections)) if self.models.judge.detects else self._judge(image)
        before_detections = detections if before is image else self._detect(before)
        boxes = torch.cat([one.boxes for one in (*detections, *before_detections)]) if detections else None
        kept = None if boxes is None else objects_kept(before_detections, detections, self._target_counts)
        return Result(
            image=image,
            before=before,
            targets=self.targets,
            counts=self.best.counts,
            judge_counts=judge_counts,
            detections=detections,
            before_detections=before_detections,
            objects_kept=kept,
            background_change=None if boxes is None else background_change(before, image, boxes),
            structural_similarity=None if boxes is None else structural_similarity(before, image, boxes),
            confirmed=self.best.confirmed,
            method=self.method,
            seed=self.seed,
            phase=self.best.phase,
            steps=self.last.index + 1,
            evaluations=self.last.evaluations,
            seconds=self.last.seconds,
            stopped=self.stopped,
            recipe=recipe.write(
                prompt=self.prompt,
                targets=self.targets,
                method=self.method,
                settings=self.settings,
                seed=self.seed,
                until=self.until,
                models=self.models,
                best=self.best,
                judge_counts=judge_counts,
                token=self.token,
                shifts=self.shifts,
                negative_prompt=self.negative_prompt,
            ),
        )


def generate(
    prompt: str,
    models: Models,
    *,
    targets: tuple[Target, ...] | None = None,
    method: str = "auto",
    settings: Settings | None = None,
    seed: int = 0,
    max_seconds: float | None = None,
    max_evaluations: int | None = None,
    until: str = "critic",
    token: CountToken | None = None,
    number_offset: NumberOffset | None = None,
    calibration: Calibration | None = None,
    negative_prompt: str | None = None,
    progress: bool = False,
) -> Result:
    """Generate one image with the right count, or the best candidate within the budget.

    Args:
        prompt: for example "a photo of seven apples".
        models: from `countgen.load`.
        targets, method, settings, seed, max_seconds, max_evaluations, until: as `Run` takes them.
        token, number_offset, calibration, negative_prompt: likewise.
        progress: show the progress on standard error, see `Run.with_progress`.

    Raises:
        PromptError, TokenFileError, ValueError: as `Run`.
    """
    run = Run(
        prompt,
        models,
        targets=targets,
        method=method,
        settings=settings,
        seed=seed,
        max_seconds=max_seconds,
        max_evaluations=max_evaluations,
        until=until,
        token=token,
        number_offset=number_offset,
        calibration=calibration,
        negative_prompt=negative_prompt,
    )
    for _ in run.with_progress() if progress else run:
        pass
    return run.result()
