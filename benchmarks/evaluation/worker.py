"""Generate one image of a run and judge it; every engine runs these workers."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
import transformers
from PIL.Image import Image

import countgen
from countgen.benchmarks.evaluation import arms
from countgen.benchmarks.evaluation.judges import judged, record_fields
from countgen.benchmarks.evaluation.peak_memory import forget_peak, peak_bytes
from countgen.benchmarks.evaluation.plan import Case, RunSettings, token_name
from countgen.benchmarks.evaluation.records import IMAGES, Record, counts_of
from countgen.critics import Critic
from countgen.files.printable import printable
from countgen.images import to_pil
from countgen.methods.step import Step
from countgen.models import Models, load_critic
from countgen.tokens.library import find_token

WARM_UP_EVALUATIONS = 30
"""Largest number of evaluations of a method's warm-up, which is not timed; `auto` reaches its first gradient."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a case.

    Attributes:
        record: of the case.
        image, before: the image and the plain one; None when it failed.
        recipe: of the image.
        process: id of the process that generated it.
    """

    record: Record
    image: Image | None
    before: Image | None
    recipe: dict[str, Any]
    process: int


class Worker:
    """The models of one backbone, ready to generate.

    Args:
        settings: of the run.
        backbone: one of its backbones.
        object_names: of the images that it is loaded for, see `countgen.benchmarks.evaluation.plan.object_names`.

    Raises:
        ValueError: a detector that cannot be loaded, a judge of a critic's architecture, or one that does not know
            objects which the critics know, or a model that does not do what the settings ask of it.
    """

    def __init__(self, settings: RunSettings, backbone: str, object_names: Iterable[tuple[str, ...]] = ()) -> None:
        torch.set_num_threads(settings.threads)
        self.settings = settings
        self.backbone = backbone
        diffusers.utils.logging.disable_progress_bar()
        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        self.models = countgen.load(
            settings.source_of(backbone),
            critics=settings.critics,
            judge=settings.judges[0],
            device=settings.device,
            trust_checkpoint=settings.trust_checkpoint,
            **settings.generation.asked_of_load,
        )
        settings.generation.check(self.models.backbone)
        self.judges = {settings.judges[0]: self.models.required_judge}
        for name in settings.judges[1:]:
            self.judges[name] = load_critic(name, settings.device, trust_checkpoint=settings.trust_checkpoint)
        # Raises for a judge of a critic's family.
        self.judged_models = [
            Models(self.models.backbone, self.models.critics, judge) for judge in self.judges.values()
        ]
        for names in object_names:
            self._check_judges(names)
        self._warm: set[str] = set()

    def _check_judges(self, object_names: tuple[str, ...]) -> None:
        """Raise if a judge would fail every image of objects which the critics can count."""
        try:
            for critic in self.models.critics:
                critic.check_distinct(object_names)
        except ValueError:
            return  # with any judge the images of these objects fail, and the others do not
        for judge in self.judges.values():
            judge.check_distinct(object_names)

    def process(self) -> int:
        """Return the process id, once the models are loaded."""
        return os.getpid()

    def attempt(self, case: Case) -> Outcome:
        """Generate and judge an image; an exception becomes a failed record."""
        try:
            return self._generated(case)
        except Exception as error:  # one bad case must not end the run
            return failed(case, error)

    def _generated(self, case: Case) -> Outcome:
        for models in self.judged_models:
            models.check(case.prompt.targets)
        self._warm_up(case)
        return generated(case, self._run(case), self.judges)

    def _run(self, case: Case) -> countgen.Run:
        arm = arms.find(case.method)
        return countgen.Run(
            case.prompt.prompt,
            self.models,
            targets=case.prompt.targets,
            method=arm.method,
            settings=arm.settings(self.settings.method_settings),
            seed=case.seed,
            max_seconds=self.settings.max_seconds,
            max_evaluations=self.settings.max_evaluations,
            token=find_token(token_name(case.prompt), case.backbone) if arm.with_token else None,
            worth=math.inf,  # arms are compared at equal budgets
            number_offset=0 if arm.as_written else None,
            calibration=self.settings.generation.loaded_calibration,
            negative_prompt=self.settings.generation.negative_prompt,
        )

    def _warm_up(self, case: Case) -> None:
        """Run a method once before its first image, whose time would include what libraries initialise on first use."""
        if case.method not in self._warm:
            run = self._run(case)
            self._warm.add(case.method)  # not earlier: a case that fails does not warm up
            for step in run:
                if step.phase == "refine" or step.evaluations >= WARM_UP_EVALUATIONS:
                    break


def generated(case: Case, run: countgen.Run, judges: Mapping[str, Critic]) -> Outcome:
    """Generate an image and judge it.

    Args:
        case: of the record.
        run: of the case, not begun.
        judges: by name, the run's own first.
    """
    backbone = run.models.backbone
    forget_peak(backbone.device)
    bests: list[Step] = []
    with truncations_of(backbone.pipeline) as truncations:
        for _ in run:
            if run.best is not None and (not bests or run.best is not bests[-1]):
                bests.append(run.best)
    peak = peak_bytes(backbone.device)
    result = run.result()
    wanted = tuple(target.target_count for target in run.targets)
    names = [target.object_name for target in run.targets]
    (first, judge), *others = judges.items()
    counted = {first: (result.judge_counts, result.detections)}
    counted |= {name: judged(other, result.image[None], names)[0] for name, other in others}
    rights = [tuple(judge.counts(best.image[None], names)[0].tolist()) == wanted for best in bests[:-1]]
    # The last best image is judged as it is stored: rendered alone, since rounding differs within a batch.
    rights.append(bool(result.verified))
    trace = [(best.evaluations, round(best.seconds, 4), right) for best, right in zip(bests, rights, strict=True)]
    measured = ("objects_kept", "background_change", "structural_similarity", "probability")
    values = {name: getattr(result, name) for name in measured}
    measures: dict[str, Any] = {name: None if value is None else round(value, 5) for name, value in values.items()}
    # The image is its own plain image.
    is_plain = result.method == "plain" and "token" not in result.recipe
    record = Record(
        **case_fields(case),
        status="done",
        critic_counts=result.counts,
        **record_fields(counted),
        confirmed=result.confirmed,
        trace=tuple(trace),
        evaluations=result.evaluations,
        seconds=round(result.seconds, 4),
        peak_bytes=peak,
        image=f"{IMAGES}/{case.key}.png",
        before=f"{IMAGES}/{case.key}.png" if is_plain else f"{IMAGES}/{case.key}-before.png",
        truncated=bool(truncations),
        **measures,
    )
    before = None if is_plain else to_pil(result.before)
    return Outcome(record, to_pil(result.image), before, result.recipe, os.getpid())


@contextmanager
def truncations_of(pipeline: Any) -> Iterator[list[str]]:
    """Collect a stock pipeline's warnings, its only report of truncated prompts, in place of printing them."""
    logger, messages = logging.getLogger(type(pipeline).__module__), list[str]()

    def collect(record: logging.LogRecord) -> bool:
        is_truncation = "truncated" in record.getMessage()
        messages.extend([record.getMessage()] * is_truncation)
        return not is_truncation

    logger.setLevel(logging.WARNING)
    logger.addFilter(collect)
    try:
        yield messages
    finally:
        logger.removeFilter(collect)


def failed(case: Case, error: Exception) -> Outcome:
    """Return the record of a case that could not be generated."""
    record = Record(
        **case_fields(case),
        status="failed",
        error=printable(" ".join(f"{type(error).__name__}: {error}".split())),
    )
    return Outcome(record, None, None, {}, os.getpid())


def case_fields(case: Case) -> dict[str, Any]:
    """Return the fields of a `Record` that are known before its image."""
    return {
        "key": case.key,
        "suite": case.prompt.suite,
        "level": case.prompt.level,
        "prompt": case.prompt.prompt,
        "wanted": counts_of(case.prompt.targets),
        "seed": case.seed,
        "backbone": case.backbone,
        "method": case.method,
        "critics": case.critics,
        "judges": case.judges,
    }
