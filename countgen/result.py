"""What a run returns: its best image, and what the critics and the judge count in it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from countgen.critics import Detections
from countgen.prompts import Target

_PIXELS = ("image", "before")


@dataclass(frozen=True, repr=False)
class Result:
    """A finished image and what is known about it.

    Attributes:
        image: RGB float (3, H, W) in [0, 1]: the best candidate.
        before: the plain image of the given seed, rendered without a token or an offset of the numbers;
            for an edit, the original.
        targets: object classes and their target counts.
        counts: the first critic's counts, per target.
        judge_counts: the judge's counts, per target; `critics.NO_ANSWER` where it gave none, empty without a judge.
        detections, before_detections: the judge's detections in `image` and in `before`, per target; empty where the
            judge counts without detecting.
        objects_kept, background_change, structural_similarity: of `image` compared with `before`, by the judge's boxes,
            as `countgen.image_preservation` defines them; None where the judge counts without detecting.
        confirmed: the critics agree on every view.
        method, seed: as given.
        phase: of the best candidate, as `Step` defines it.
        steps: candidates that were evaluated, batches counted once.
        evaluations, seconds: spent, without loading; time for judging is included where the judge steers.
        stopped: why the run ended by itself before its budget was spent: a loss that is not finite, or out of memory;
            otherwise None.
        recipe: JSON-able; everything that is needed to generate the image again.
    """

    image: Tensor
    before: Tensor
    targets: tuple[Target, ...]
    counts: tuple[int, ...]
    judge_counts: tuple[int, ...]
    detections: tuple[Detections, ...]
    before_detections: tuple[Detections, ...]
    objects_kept: float | None
    background_change: float | None
    structural_similarity: float | None
    confirmed: bool
    method: str
    seed: int
    phase: str
    steps: int
    evaluations: int
    seconds: float
    stopped: str | None
    recipe: dict[str, Any]

    @property
    def verified(self) -> bool | None:
        """Whether the judge's counts equal the target counts; None without a judge."""
        return (
            None
            if not self.judge_counts
            else self.judge_counts == tuple(target.target_count for target in self.targets)
        )

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
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _PIXELS}
        for name in ("detections", "before_detections"):
            values[name] = [
                {"object_name": one.object_name, "boxes": one.boxes.tolist(), "scores": one.scores.tolist()}
                for one in values[name]
            ]
        counts = {name: list(values[name]) for name in ("counts", "judge_counts")}
        targets = {target.object_name: target.target_count for target in self.targets}
        return values | counts | {"targets": targets, "verified": self.verified}
