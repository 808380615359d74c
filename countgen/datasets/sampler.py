"""One attempt at an image: a search over its own seeds, then the boxes of two detectors in what it found."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image

from countgen import recipe
from countgen.backbones.model_files import public_name
from countgen.datasets.boxes import Box, agreed_boxes
from countgen.datasets.plan import Cell, Plan
from countgen.determinism import deterministic
from countgen.files.json_lines import Line
from countgen.files.schema import Integer, Whole
from countgen.images import to_pil
from countgen.models import Models
from countgen.prompts.plurals import counted_in_words
from countgen.run import generate

Loader = Callable[[], Models]

try:
    from imagehash import phash
except ImportError as error:
    raise ImportError("data sets need imagehash: pip install 'countgen[dataset]'") from error


class Attempt(Line, frozen=True, kw_only=True, gc=False):
    """What became of an attempt: an image of the set, or a reason why not.

    Attributes:
        cell: index of the cell.
        number: 0, 1, ... in the cell.
        seed: the first of the search; `seeds` of them were drawn.
        probability: that the count is right, by the critics.
        judge_counts: the judge's counts, per target.
        reason: why the image is rejected; empty if it is accepted.
        boxes: agreed ones of all targets; empty for rejected images and negatives.
        layout: perceptual hash of the image.
        image: its path in the folder; empty if it is not kept.
        width, height: of the image.
    """

    cell: Whole
    number: Whole
    seed: Whole
    seeds: Whole
    probability: float
    judge_counts: tuple[Integer, ...]
    reason: str = ""
    boxes: tuple[Box, ...] = ()
    layout: str = ""
    image: str = ""
    width: Whole = 0
    height: Whole = 0


@dataclass(frozen=True)
class Outcome:
    """An attempt with its image and the recipe of it."""

    attempt: Attempt
    image: Image.Image
    recipe: dict[str, Any]


class Sampler:
    """Makes attempts; the same attempt is the same to the last bit, in whatever process.

    Raises:
        ValueError: a class that a detector does not know, more objects than it returns, or no judge or critic with
            boxes.
    """

    def __init__(self, plan: Plan, models: Models) -> None:
        self.plan, self.models = plan, models
        judge, critics = models.required_judge, [critic for critic in models.critics if critic.detects]
        if not judge.detects or not critics:
            raise ValueError("boxes need a critic and a judge that detect; name others with --critic and --judge")
        self.critic, self.judge = critics[0], judge
        for cell in plan.cells():
            models.check(cell.targets)
        self.names = tuple(dict.fromkeys((*plan.classes, *(name for cell in plan.cells() for name in cell.counts))))
        for detector in (*models.critics, judge):
            detector.check_distinct(self.names)

    def identity(self) -> dict[str, Any]:
        """Return what decides about the images besides the plan."""
        backbone, detectors = self.models.backbone, (*self.models.critics, self.judge)
        preset = backbone.preset
        return {
            "model": backbone.name,
            "licence": preset.licence,
            "repository": public_name(preset.repository),
            "revision": preset.revision,
            "loras": [lora.recorded for lora in backbone.loras],
            "dtype": str(backbone.dtype).removeprefix("torch."),
            "device": backbone.device.type,
            "sampling": [backbone.num_inference_steps, backbone.guidance_scale, backbone.height, backbone.width],
            "scheduler": backbone.sampler,
            "detectors": [detector.name for detector in detectors],
            "versions": recipe.versions(),
        }

    def attempt(self, cell: Cell, number: int) -> Outcome:
        """Search the seeds of an attempt, and compare the boxes of the critic and the judge in the best image."""
        seed = self.plan.seed_of(cell.first_attempt + number)
        result = generate(
            cell.prompt,
            self.models,
            targets=cell.targets,
            method="search",
            seed=seed,
            sure=cell.group.sure,
            worth=math.inf,  # an image that is not confirmed is worth nothing here
            max_evaluations=cell.group.max_seeds,
            deterministic=True,
        )
        image = to_pil(result.image)
        # In the image as it is stored: with 8 bits.
        with deterministic(True):
            detections = [detector.detect(image, self.names)[0] for detector in (self.critic, self.judge)]
        reason, boxes = "", list[Box]()
        if not result.confirmed:
            reason = f"P(right) {result.probability:.2f} is below {cell.group.sure:g} after {result.evaluations} seeds"
        for detector, by_class in zip(("critic", "judge"), detections, strict=True):
            counts = {name: len(of_class) for name, of_class in zip(self.names, by_class, strict=True)}
            others = set(self.plan.classes) - set(cell.counts)
            wrong = {name: n for name, n in counts.items() if n != cell.counts.get(name, 0 if name in others else n)}
            if wrong:
                reason = reason or f"the {detector} counts {counted_in_words(wrong)}"
        for critic, judge in zip(*detections, strict=True):
            if not reason and critic.object_name in cell.counts:
                agreed = agreed_boxes(critic, judge, *image.size)
                if agreed is None:
                    reason = f"critic and judge disagree about the boxes of {critic.object_name}"
                boxes += agreed or ()
        attempt = Attempt(
            cell=cell.index,
            number=number,
            seed=seed,
            seeds=result.evaluations,
            probability=round(result.probability, 4),
            judge_counts=result.judge_counts,
            reason=reason,
            boxes=() if reason or cell.group.negative else tuple(boxes),
            layout=str(phash(image)),
            width=image.width,
            height=image.height,
        )
        return Outcome(attempt, image, result.recipe)
