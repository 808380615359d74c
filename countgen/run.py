"""Run a method on a prompt, and return its best image with what the critics and the judge count."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from typing import Unpack

import torch
from torch import Tensor

from countgen import methods, recipe
from countgen.backbones import PromptEmbeds
from countgen.backbones.low_memory import retry_with_low_memory
from countgen.critics import Detections
from countgen.determinism import deterministic, each_deterministic
from countgen.errors import StoppedError, StopRequestedError
from countgen.methods.acceptance import Acceptance
from countgen.methods.objective import CONFIRMATION_VIEWS, Objective, distinct_views
from countgen.methods.problem import Problem
from countgen.methods.step import Step
from countgen.methods.stopping import gains_too_little
from countgen.models import Models
from countgen.number_slider import NumberShift, encode_shifted, find_calibration
from countgen.number_slider.shifts import calibrated_shifts, offset_shifts
from countgen.options import OptionFields, Options
from countgen.progress import followed
from countgen.prompts.prompt import PLACEHOLDER, Prompt
from countgen.result import Result
from countgen.tokens.textual_inversion import check_token, encode_prompt


@dataclass(frozen=True)
class Original:
    """An image that an edit starts from, in place of the plain image of a seed.

    Attributes:
        latents: float (1, C, h, w).
        image: RGB float (3, H, W) in [0, 1], rendered from them with the prompt that it was generated with.
        seed: of the latents, 0 to 2**63 - 1; a search may have found it far above the seed that was given.
    """

    latents: Tensor
    image: Tensor
    seed: int


class Run:
    """The generation of one image: iterate over it for its `Step`s, leave the loop at any time, then call `result`.

    `stop` ends the iteration from another thread.

    Args:
        prompt: for example "a photo of seven apples"; or what `Models.read` returned.
        models: from `countgen.load`.
        options: how the image is generated; the defaults if None.
        original: the image that the method "edit" starts from; the image of the seed by default.
        fields: of `Options`; they replace those of `options`.

    Attributes:
        options: all of them, with the targets filled in.
        seed: of the first latents: the option's, or that of the original.
        shifts: moves of the prompt embeddings along the number axis, per object class; usually empty.
        best, last: the best and the latest step so far; None before the first one.
        stopped: why the run ended by itself before its budget was spent; usually None.

    Raises:
        PromptError: the prompt has no clear count, or only beyond the part that the backbone's text encoder reads, or
            no number for the offset to move.
        TokenFileError: a token of another backbone.
        ValueError: options outside their range, an object that a detector does not know, or a number offset beyond
            the calibrated range.
    """

    def __init__(
        self,
        prompt: str | Prompt,
        models: Models,
        options: Options | None = None,
        *,
        original: Original | None = None,
        **fields: Unpack[OptionFields],
    ) -> None:
        options = replace(options or Options(), **fields)
        self._method = methods.load(options.method)
        if original is not None and not self._method.starts_from_image:
            raise ValueError(f"method {self._method.name!r} cannot start from an image; give method='edit'")
        if models.backbone.seeds_only and not self._method.seeds_only:
            raise ValueError(
                f"{models.backbone.name} returns whole images, and the method {self._method.name!r} needs latents and "
                f"gradient; take one of {', '.join(methods.seeds_only())}"
            )
        if options.until == "judge":
            models.required_judge  # noqa: B018 - raises without one
        prompt = models.read(prompt, options.targets)
        if options.negative_prompt is not None:
            models.backbone.check_negative_prompt(options.negative_prompt)
        self.prompt = prompt
        self.models = models
        self.original = original
        self.seed = options.seed if original is None else original.seed
        self.targets = prompt.targets
        self.options = replace(
            options, targets=self.targets, settings=options.settings or self._method.settings_class()
        )
        self._object_names = [target.object_name for target in self.targets]
        self._target_counts = tuple(target.target_count for target in self.targets)
        self._check_token()
        self._calibration = options.calibration or find_calibration(models.backbone)
        if options.calibration is not None:
            options.calibration.check(models.backbone, models.critics)
        self.shifts = self._number_shifts()
        self.best: Step | None = None
        self.last: Step | None = None
        self.stopped: str | None = None
        self._accepted: Step | None = None
        self._begun = self._stop_requested = False

    def __iter__(self) -> Iterator[Step]:
        if self._begun:
            raise RuntimeError("this run was iterated over already; create another Run to generate again")
        self._begun = True
        budget = self.options.budget(lambda: self._stop_requested and self.best is not None)
        models = self.models
        latents = None if self.original is None else self.original.latents
        problem = Problem(
            models.backbone,
            models.critics,
            self.targets,
            self._embeds,
            self._accept,
            latents,
            models.graphs,
            (self._calibration and self._calibration.acceptance) or Acceptance(),
            self.options.sure,
        )
        try:
            steps = self._method.function(problem, self.seed, budget, self.options.settings)
            for step in each_deterministic(steps, self.options.deterministic):
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
        """Iterate, and show on standard error the label (by default the seed), counts, loss and the budget spent."""
        return followed(self, label=label or f"seed {self.seed}", targets=self.targets, limits=self.options.limits)

    def _check_token(self) -> None:
        """Check that the token is of this backbone and that the prompt has a number or placeholder for it."""
        token, placeholder = self.options.token, PLACEHOLDER.search(self.prompt.given)
        if token is not None:
            check_token(token, self.models.backbone)
            self.prompt.with_placeholder(token.target_count)  # raises if it has no such number
        elif placeholder:
            raise ValueError(
                f"the prompt contains {placeholder[0]}: give that token too, or write the number as a word"
            )

    def _number_shifts(self) -> tuple[NumberShift, ...]:
        """Return the moves along the number axis that the options ask for, or that the calibration says."""
        options, calibration = self.options, self._calibration
        if options.number_offset is not None:
            return offset_shifts(self.prompt, calibration, options.number_offset)
        if calibration is not None and options.token is None and self._method.calibrated:
            return calibrated_shifts(self.prompt, calibration)
        return ()

    @cached_property
    def _embeds(self) -> PromptEmbeds:
        backbone, options = self.models.backbone, self.options
        with torch.no_grad(), deterministic(options.deterministic):
            return retry_with_low_memory(
                backbone,
                lambda: encode_shifted(backbone, self.prompt, options.token, self.shifts, options.negative_prompt),
                self.models.graphs.release,
            )

    def _accept(self, step: Step) -> bool:
        until_judge = self.options.until == "judge"
        if step.confirmed and not (until_judge and self._judge(step.image) != self._target_counts):
            self._accepted = step
            return True
        best = step if self.best is None or step.rank > self.best.rank else self.best
        # Of a confirmed image that the judge does not agree with, P(right) is no longer known.
        if not gains_too_little(0.0 if until_judge else best.probability, step.evaluations, self.options.price):
            return False
        self.stopped = (
            f"another evaluation is expected to gain less than it costs after {step.evaluations}; fewer objects or "
            "classes, another scene or another seed may help, or a higher worth"
        )
        return True

    def doubts(self, image: Tensor) -> tuple[str, ...]:
        """Return why the critics do not confirm the counts of an image (3, H, W), one phrase per critic at most."""
        phrases = []
        for critic in self.models.critics:
            for view in distinct_views(CONFIRMATION_VIEWS, critic):
                with torch.no_grad():
                    evaluation = Objective((critic,), self.targets, (view,)).evaluate(image[None])
                if float(evaluation.margin) < 1:
                    counts = tuple(evaluation.counts[0].tolist())
                    close = ", but an object is close to its threshold" if counts == self._target_counts else ""
                    phrases.append(f"{critic.name} counts {' and '.join(map(str, counts))} {view}{close}")
                    break
        return tuple(phrases)

    def why_replaced(self, result: Result) -> str | None:
        """Return why a baseline that the judge counts right was replaced, as a sentence; None if it was not."""
        counts = tuple(map(len, result.before_detections))
        if result.before is result.image or self.original is not None or counts != self._target_counts:
            return None
        reasons = "; ".join(self.doubts(result.before)) or "its count is not certain enough"
        return f"Not confirmed: {reasons}."

    def finish(self, *, progress: bool = False) -> Result:
        """Iterate to the end, with the progress on standard error if asked, and return the result."""
        for _ in self.with_progress() if progress else self:
            pass
        return self.result()

    def _judge(self, image: Tensor) -> tuple[int, ...]:
        judge = self.models.judge
        return () if judge is None else tuple(judge.counts(image[None], self._object_names)[0].tolist())

    def _detect(self, image: Tensor) -> tuple[Detections, ...]:
        judge = self.models.judge
        return judge.detect(image, self._object_names)[0] if judge is not None and judge.detects else ()

    @torch.no_grad()
    def _before(
        self, image: Tensor, detections: tuple[Detections, ...], best: Step
    ) -> tuple[Tensor, tuple[Detections, ...]]:
        """Return the original of an edit, or the plain image of the seed, and the judge's detections in it.

        The arguments are of the best candidate, which may be that image.
        """
        if self.original is not None:
            return self.original.image, self._detect(self.original.image)
        backbone = self.models.backbone
        latents = backbone.initial_latents([self.seed])
        changed = self.options.token or self.shifts
        if not changed and best.seed == self.seed and torch.equal(best.latents, latents[0]):
            return image, detections
        with deterministic(self.options.deterministic):
            plain = self._embeds
            if changed:
                plain = encode_prompt(backbone, self.prompt, None, self.options.negative_prompt)
            before = backbone.render(latents, plain, [self.seed])[0]
            return before, self._detect(before)

    def result(self) -> Result:
        """Return the best candidate so far with the judge's counts.

        Raises:
            RuntimeError: no candidate has been evaluated yet.
        """
        if self.best is None or self.last is None:
            raise RuntimeError("nothing is generated yet: iterate over the run first")
        backbone = self.models.backbone
        with torch.no_grad(), deterministic(self.options.deterministic):
            image = self.best.image
            if not self.best.rendered_alone:  # as `countgen.recipe.regenerate` will: within a batch, rounding differs
                image = backbone.render(self.best.latents[None], self._embeds, [self.best.seed])[0]
            detections = self._detect(image)
            judge_counts = tuple(map(len, detections)) if detections else self._judge(image)
        return Result(
            image=image,
            targets=self.targets,
            counts=self.best.counts,
            judge_counts=judge_counts,
            detections=detections,
            probability=self.best.probability,
            confirmed=self.best.confirmed,
            method=self._method.name,
            seed=self.seed,
            phase=self.best.phase,
            steps=self.last.index + 1,
            evaluations=self.last.evaluations,
            seconds=self.last.seconds,
            stopped=self.stopped,
            recipe=recipe.write(
                self.prompt, self.models, self.options, self.seed, self.shifts, self.best, judge_counts
            ),
            render_before=partial(self._before, image, detections, self.best),
        )


def generate(
    prompt: str | Prompt, models: Models, *, progress: bool = False, **options: Unpack[OptionFields]
) -> Result:
    """Generate one image with the right count, or the best candidate within the budget.

    Args:
        prompt, models: as of `Run`, whose errors are raised.
        progress: show the progress on standard error, see `Run.with_progress`.
        options: fields of `Options`.
    """
    return Run(prompt, models, **options).finish(progress=progress)


def generate_batch(
    prompts: Sequence[str | Prompt],
    models: Models,
    *,
    seeds: Sequence[int] = (0,),
    progress: bool = False,
    **options: Unpack[OptionFields],
) -> Iterator[Result]:
    """Yield one result for each prompt and seed, prompt by prompt, as soon as it is finished.

    All prompts are checked before the first image is generated.

    Args:
        prompts: a list of prompts.
        seeds: of each prompt's images.
        models, progress, options: as of `generate`, the same for every image, without `seed`.
    """
    if isinstance(prompts, str):
        raise ValueError(f"prompts must be a list, got the string {prompts!r}; write [{prompts!r}]")
    if "seed" in options:
        raise ValueError(f"give the seeds of a batch as seeds=[{options['seed']}]")
    shared = Options(**options)
    read = [models.read(prompt, shared.targets) for prompt in prompts]
    runs = deque(Run(prompt, models, replace(shared, seed=seed)) for prompt, seed in product(read, seeds))
    # Taken out one by one, since a finished run holds its images.
    return (runs.popleft().finish(progress=progress) for _ in range(len(runs)))
