"""Calibration of the number axis: measured counts by number word and offset, stored in a JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from countgen import miniature
from countgen.atomic_write import write_atomically
from countgen.backbones import Backbone
from countgen.backbones.registry import base_model

FOLDER = miniature.FOLDER / "calibrations"
"""Folder with one file per calibrated model, named by `base_model`: "miniature.json"."""

SCHEMA = 1
USABLE_SHARE = 0.05
"""Share of images with a count above which a search is worth it: 60 images then contain one in 95 % of the searches."""

OFFSETS = (1, 2, 3, 4, 6, 8, 10, 12, -2, -4, -6)
"""Offsets measured from the highest number word `hi`, as far as they lie above -hi and not above hi."""


@dataclass(frozen=True)
class Point:
    """The counts of the images generated for one number word and offset.

    Attributes:
        number: the number word.
        offset: along the axis, in objects.
        images: number of images by their count.
    """

    number: int
    offset: float
    images: Mapping[int, int]

    @property
    def mean(self) -> float:
        """Mean count of the images."""
        return sum(count * images for count, images in self.images.items()) / sum(self.images.values())

    def share(self, count: int) -> float:
        """Return the fraction of the images with a count."""
        return self.images.get(count, 0) / sum(self.images.values())


@dataclass(frozen=True)
class Calibration:
    """Generated counts by number word and offset, complete or partial.

    Attributes:
        backbone: the model, as `base_model` names it.
        num_inference_steps, guidance_scale, height, width: of the images.
        critic: the detector that counted: the first critic, since the judge must not influence a run.
        object_names: classes, in turn.
        images_per_point: number of images of each point, with the same seeds for all points.
        first_seed: of those seeds.
        max_number: highest number word.
        points: number words from 1 on with the offset 0, then offsets from `hi`.
    """

    backbone: str
    num_inference_steps: int
    guidance_scale: float
    height: int
    width: int
    critic: str
    object_names: tuple[str, ...]
    images_per_point: int
    first_seed: int
    max_number: int
    points: tuple[Point, ...] = ()

    @property
    def words(self) -> tuple[Point, ...]:
        """Points without offset."""
        return tuple(point for point in self.points if point.offset == 0)

    @property
    def hi(self) -> int:
        """Number word whose images have most objects on average; higher counts have no word that the model follows."""
        return max(self.words, key=lambda point: point.mean).number

    @property
    def lo(self) -> int:
        """Lower end of the axis: half of `hi`."""
        return self.hi // 2

    @property
    def left(self) -> tuple[tuple[int, float], ...]:
        """Number and offset of the points still to be measured, as far as they are known."""
        words = tuple((number, 0.0) for number in range(len(self.words) + 1, self.max_number + 1))
        if words:
            return words
        measured = {point.offset for point in self.points}
        return tuple((self.hi, float(k)) for k in OFFSETS if k not in measured and -self.hi < k <= self.hi)

    @property
    def on_axis(self) -> tuple[Point, ...]:
        """Points on the axis through `hi`, by offset."""
        return tuple(sorted((p for p in self.points if p.number == self.hi), key=lambda point: point.offset))

    @property
    def offset_range(self) -> tuple[float, float]:
        """Offsets from `hi` with the lowest and the highest mean count; the axis is not used outside them."""
        fewest = min(self.on_axis, key=lambda point: point.mean)
        most = max(self.on_axis, key=lambda point: point.mean)
        return min(fewest.offset, 0.0), max(most.offset, 0.0)

    @property
    def max_count(self) -> int:
        """Highest count up to which every count has a point with a share of at least `USABLE_SHARE`."""
        count = 0
        while self.best_for(count + 1).share(count + 1) >= USABLE_SHARE:
            count += 1
        return count

    def best_for(self, count: int) -> Point:
        """Return the point whose images have a count most often; on a tie, the one with the nearest mean."""
        low, high = self.offset_range
        usable = [p for p in self.points if p.number <= self.hi and low <= p.offset <= high]
        return max(usable, key=lambda point: (point.share(count), -abs(point.mean - count)))

    def as_written(self, count: int) -> float | None:
        """Return the share of images with a count for its own number word; None where that was not measured."""
        return next((point.share(count) for point in self.words if point.number == count), None)

    def replacement_for(self, count: int) -> Point | None:
        """Return the point to use in place of a count's own number word, or None where that word is used.

        A count is replaced only above `hi`, where its word is below `USABLE_SHARE` and the point is better.
        """
        written = self.as_written(count) or 0.0
        best = self.best_for(count)
        better = count > self.hi and written < USABLE_SHARE and best.share(count) > written
        return best if better else None

    def check(self, backbone: Backbone) -> None:
        """Refuse a calibration that is not complete, or of another model.

        Raises:
            ValueError: the message names the case.
        """
        if self.left:
            raise ValueError(
                f"the calibration of {self.backbone} lacks {len(self.left)} points or more; run `countgen calibrate` "
                "again with the same --out to continue"
            )
        if self.backbone != base_model(backbone):
            raise ValueError(f"the calibration is of {self.backbone}, the model here is {base_model(backbone)}")

    def with_point(self, number: int, offset: float, images: Mapping[int, int]) -> Calibration:
        """Return the calibration with one more point."""
        return replace(self, points=(*self.points, Point(number, offset, dict(sorted(images.items())))))

    def save(self, path: Path) -> None:
        """Write the file atomically.

        Raises:
            OSError: the folder is missing or not writable, or the disk is full; an existing file is kept.
        """
        lines = [json.dumps(asdict(point)) for point in self.points]
        head = json.dumps({"schema": SCHEMA, **{k: v for k, v in asdict(self).items() if k != "points"}}, indent=1)
        points = ",\n  ".join(lines)
        write_atomically(f'{head[:-2]},\n "points": [\n  {points}\n ]\n}}\n'.encode(), path)


def load_calibration(path: str | Path) -> Calibration:
    """Read a calibration, complete or partial.

    Raises:
        ValueError: the file is no calibration, or damaged.
        OSError: the file cannot be read.
    """
    try:
        stored: dict[str, Any] = json.loads(Path(path).read_text("utf-8"))
        schema, points = stored.pop("schema"), stored.pop("points")
        if schema != SCHEMA:
            raise ValueError(f"its schema is {schema!r}, this version reads {SCHEMA}")
        found = Calibration(**{**stored, "object_names": tuple(stored["object_names"])})
        for point in points:
            images = {int(count): int(number) for count, number in point["images"].items()}
            if not (sum(images.values()) > 0 <= min(images.values()) and math.isfinite(point["offset"])):
                raise ValueError(f"a point has the images {point['images']!r} and the offset {point['offset']!r}")
            found = found.with_point(int(point["number"]), float(point["offset"]), images)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} holds no calibration of the number axis: {error}; `countgen calibrate` makes one"
        ) from error
    return found


@cache
def _shipped(name: str) -> Calibration | None:
    # Only existing files of the folder: a repository's name cannot lead outside it.
    files = {path.stem: path for path in FOLDER.glob("*.json")}
    return load_calibration(files[name]) if name in files else None


def find_calibration(backbone: Backbone) -> Calibration | None:
    """Return the shipped calibration for a backbone's weights; None where there is none."""
    return _shipped(base_model(backbone))
