"""What a run returns: its best image, and what the critics and the judge count in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from countgen.critics import Detections
from countgen.image_preservation import background_change, objects_kept, structural_similarity
from countgen.prompts import Target

_MEASURES = ("objects_kept", "background_change", "structural_similarity")


@dataclass(frozen=True, repr=False)
class Result:
    """A finished image and what is known about it.

    Attributes:
        image: RGB float (3, H, W) in [0, 1]: the best candidate.
        targets: object classes and their target counts.
        counts: the first critic's counts, per target.
        judge_counts: the judge's counts, per target; `critics.NO_ANSWER` where it gave none, empty without a judge.
        detections: the judge's detections in `image`, per target; empty where the judge counts without detecting.
        probability: that the count is right, by the critics; `countgen.methods.acceptance` says how it is estimated.
        confirmed: the probability is at least what was asked for, 0.98 by default.
        method, seed: as given.
        phase: of the best candidate, as `Step` defines it.
        steps: candidates that were evaluated, batches counted once.
        evaluations, seconds: spent, without loading; time for judging is included where the judge steers.
        stopped: why the run ended by itself before its budget was spent: a loss that is not finite, out of memory, or
            little expected gain; otherwise None.
        recipe: JSON-able; everything that is needed to generate the image again.
        render_before: returns `before` and `before_detections`; called when they are first read.
        objects_kept, background_change, structural_similarity: of `image` compared with `before`, by the judge's boxes,
            as `countgen.image_preservation` defines them; None if the judge counts without detecting.
    """

    image: Tensor
    targets: tuple[Target, ...]
    counts: tuple[int, ...]
    judge_counts: tuple[int, ...]
    detections: tuple[Detections, ...]
    probability: float
    confirmed: bool
    method: str
    seed: int
    phase: str
    steps: int
    evaluations: int
    seconds: float
    stopped: str | None
    recipe: dict[str, Any]
    render_before: Callable[[], tuple[Tensor, tuple[Detections, ...]]] = field(compare=False)

    @cached_property
    def _before(self) -> tuple[Tensor, tuple[Detections, ...]]:
        return self.render_before()

    @property
    def before(self) -> Tensor:
        """The plain image of the seed, rendered without a token or number offset; for an edit, the original."""
        return self._before[0]

    @property
    def before_detections(self) -> tuple[Detections, ...]:
        """The judge's detections in `before`."""
        return self._before[1]

    @property
    def objects_kept(self) -> float | None:
        """Fraction of the objects of `before` that are kept."""
        wanted = [target.target_count for target in self.targets]
        return objects_kept(self.before_detections, self.detections, wanted) if self.detections else None

    @property
    def background_change(self) -> float | None:
        """Mean absolute difference from `before` outside the objects."""
        return background_change(self.before, self.image, self._boxes) if self.detections else None

    @property
    def structural_similarity(self) -> float | None:
        """Structural similarity to `before` outside the objects."""
        return structural_similarity(self.before, self.image, self._boxes) if self.detections else None

    @property
    def _boxes(self) -> Tensor:
        return torch.cat([detected.boxes for detected in (*self.detections, *self.before_detections)])

    @property
    def verified(self) -> bool | None:
        """Whether the judge's counts equal the target counts; None without a judge."""
        wanted = tuple(target.target_count for target in self.targets)
        return self.judge_counts == wanted if self.judge_counts else None

    def __repr__(self) -> str:
        judged = [f", judge {count}" for count in self.judge_counts] or [""] * len(self.targets)
        counts = ", ".join(
            f"{target.target_count} {target.object_name}: critic {count}{judge}"
            for target, count, judge in zip(self.targets, self.counts, judged, strict=True)
        )
        return f"<Result {counts}; {self.method}, {self.evaluations} evaluations, {self.seconds:.1f} s>"

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pixels, as values that JSON can hold.

        Boxes are absolute-pixel xyxy, confidences are in (0, 1); the recipe is included.
        """
        names = {field.name for field in fields(self)} - {"image", "render_before"} | {"before_detections", *_MEASURES}
        values = {name: getattr(self, name) for name in names}
        for name in ("detections", "before_detections"):
            values[name] = [
                {"object_name": one.object_name, "boxes": one.boxes.tolist(), "scores": one.scores.tolist()}
                for one in values[name]
            ]
        counts = {name: list(values[name]) for name in ("counts", "judge_counts")}
        targets = {target.object_name: target.target_count for target in self.targets}
        return values | counts | {"targets": targets, "verified": self.verified}
