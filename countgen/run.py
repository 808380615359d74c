"""From a prompt to a counted picture: the whole walk in one place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from countgen import recipe
from countgen.errors import StoppedError
from countgen.methods import METHODS, NEEDS_TOKEN
from countgen.methods.auto import AutoSettings, search_and_refine
from countgen.methods.refinement import NoiseSettings, optimize_noise
from countgen.methods.search import SearchSettings, confirmed, draw, search_seeds
from countgen.methods.step import Budget, Step
from countgen.models import Models
from countgen.prompts import Target, check_prompt, parse
from countgen.prompts.placeholders import PLACEHOLDER, with_placeholder
from countgen.prompts.truncation import check_is_read
from countgen.tokens.file import CountToken
from countgen.tokens.textual_inversion import check_token, encode_prompt

UNTIL = ("critic", "judge")
DEFAULT_MAX_EVALUATIONS = 400
LATENT_MODIFIER = NoiseSettings(parametrisation="lmn", learning_rate=1e-3, prior_power=10.0)
"""D2D's sharpened prior and the rate are what `benchmarks.parametrisations` chose on the tuning seeds."""


@dataclass(frozen=True)
class Result:
    """A finished picture and what is known about it.

    Attributes:
        image: RGB float (3, H, W) in [0, 1]: the best candidate.
        before: the plain picture of the seed that was asked for, drawn without a token.
        targets: what was asked.
        counts: what the first critic counts, per target.
        judge_counts: what the judge counts, per target.
        confirmed: the critics agree on every view.
        method, seed: as asked.
        steps: candidates that were looked at, batches counted once.
        evaluations, seconds: spent, without loading; judging counts where it steers.
        stopped: why it ended early: a loss that is not finite, or memory that ran out; otherwise None.
        recipe: JSON-able; everything that is needed to draw the picture again.
    """

    image: Tensor
    before: Tensor
    targets: tuple[Target, ...]
    counts: tuple[int, ...]
    judge_counts: tuple[int, ...]
    confirmed: bool
    method: str
    seed: int
    steps: int
    evaluations: int
    seconds: float
    stopped: str | None
    recipe: dict[str, Any]

    @property
    def verified(self) -> bool:
        """The judge counts what was asked."""
        return self.judge_counts == tuple(target.target_count for target in self.targets)


class Run:
    """One picture in the making. Iterate over it, once, for its `Step`s; stop whenever you like; ask for the `result`.

    Args:
        prompt: what to draw.
        models: from `countgen.load`.
        targets: what to count; read from the prompt by default.
        method: "plain" (one seed, nothing tuned), "search" (best of N seeds), "noise" (gradients on one seed
            after the other), "lmn" (the same, moving D2D's latent modifier network instead of the latents) or
            "auto" (search, then gradients on the nearest). "token" is "plain" and "token+noise" is "auto", with a
            learned token, which they insist on.
        token: says the number it was learned for; any method takes one.
        seed: 0 or above; the same seed and budget in evaluations give the same picture.
        max_seconds, max_evaluations: the budget; 400 evaluations where neither is given.
        until: "critic" stops when the critics confirm the count. "judge" also asks the judge and goes on
            until it agrees; the judge is then no independent witness, and the recipe says so.

    Raises:
        PromptError: the prompt has no clear count, or says it behind what the backbone's text encoder reads.
        TokenFileError: a token of another backbone.
        ValueError: an unknown method, one that needs a token and has none, or an object that a detector does not know.
    """

    def __init__(
        self,
        prompt: str,
        models: Models,
        *,
        targets: tuple[Target, ...] | None = None,
        method: str = "auto",
        seed: int = 0,
        max_seconds: float | None = None,
        max_evaluations: int | None = None,
        until: str = "critic",
        token: CountToken | None = None,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"unknown method {method!r}; available: {', '.join(METHODS)}")
        if token is None and method in NEEDS_TOKEN:
            raise ValueError(f"method {method!r} needs a token: give one, or use one of the other methods")
        if until not in UNTIL:
            raise ValueError(f"until must be one of {', '.join(UNTIL)}, got {until!r}")
        if type(seed) is not int or not 0 <= seed < 2**32:
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
            raise ValueError(f"the prompt names {placeholder[0]}: give that token too, or write the number as a word")
        self.prompt = prompt
        self.token = token
        self.models = models
        self.method = method
        self.seed = seed
        self.until = until
        self.limits = (max_seconds, max_evaluations)
        self.best: Step | None = None
        self.last: Step | None = None
        self.stopped: str | None = None
        self._begun = False

    def __iter__(self) -> Iterator[Step]:
        if self._begun:
            raise RuntimeError("this run was iterated over before; make another Run to draw again")
        self._begun = True
        budget = Budget(*self.limits)
        with torch.no_grad():
            embeds = encode_prompt(self.models.backbone, self.prompt, self.token)
        accepted: Step | None = None

        def accept(step: Step) -> bool:
            return step is accepted

        arguments = (self.models.backbone, self.models.critics, embeds, self.targets, self.seed, budget)
        if self.method in ("plain", "token"):
            steps = iter(draw(*arguments[:4], [self.seed], budget, SearchSettings()))
        elif self.method == "search":
            steps = search_seeds(*arguments, SearchSettings(), accept)
        elif self.method == "noise":
            steps = optimize_noise(*arguments, NoiseSettings(), accept)
        elif self.method == "lmn":
            steps = optimize_noise(*arguments, LATENT_MODIFIER, accept)
        else:
            steps = search_and_refine(*arguments, AutoSettings(), accept)
        try:
            for step in steps:
                self.last = step
                # Judged before it is shown: what the judge accepts is kept, whatever ranked higher before.
                if self._accept(step):
                    self.best = accepted = step
                elif self.best is None or step.rank > self.best.rank:
                    self.best = step
                yield step
        except (StoppedError, torch.OutOfMemoryError) as error:
            if self.best is None:
                raise
            self.stopped = str(error)

    def _accept(self, step: Step) -> bool:
        if not confirmed(step) or self.until == "critic":
            return confirmed(step)
        return self._judge(step.image) == tuple(target.target_count for target in self.targets)

    def _judge(self, image: Tensor) -> tuple[int, ...]:
        names = [target.object_name for target in self.targets]
        return tuple(self.models.judge.counts(image[None], names)[0].tolist())

    def result(self) -> Result:
        """The best candidate so far, judged.

        Raises:
            RuntimeError: nothing was drawn yet.
        """
        if self.best is None or self.last is None:
            raise RuntimeError("nothing was drawn yet: iterate over the run first")
        backbone = self.models.backbone
        with torch.no_grad():
            plain = encode_prompt(backbone, self.prompt, None)
            before = backbone.render(backbone.initial_latents([self.seed]), plain, [self.seed])[0]
            # Drawn alone, as its recipe will draw it: within a batch, rounding differs.
            embeds = encode_prompt(backbone, self.prompt, self.token)
            image = backbone.render(self.best.latents[None], embeds, [self.best.seed])[0]
        judge_counts = self._judge(image)
        return Result(
            image=image,
            before=before,
            targets=self.targets,
            counts=self.best.counts,
            judge_counts=judge_counts,
            confirmed=self.best.confirmed,
            method=self.method,
            seed=self.seed,
            steps=self.last.index + 1,
            evaluations=self.last.evaluations,
            seconds=self.last.seconds,
            stopped=self.stopped,
            recipe=recipe.write(
                prompt=self.prompt,
                targets=self.targets,
                method=self.method,
                seed=self.seed,
                until=self.until,
                models=self.models,
                best=self.best,
                judge_counts=judge_counts,
                token=self.token,
            ),
        )


def generate(prompt: str, models: Models, **options: Any) -> Result:
    """Draw one picture with the right count, or the best there is within the budget.

    Args:
        prompt: for example "a photo of seven apples".
        models: from `countgen.load`.
        **options: as `Run` takes them.

    Raises:
        PromptError, ValueError: as `Run`.
    """
    run = Run(prompt, models, **options)
    for _ in run:
        pass
    return run.result()
