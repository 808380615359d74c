"""What a model generates when it is asked for a number: measured counts by number word and offset, in a JSON file."""

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
"""Holds a file for each model that has one, by what `base_model` calls it: "miniature.json"."""

SCHEMA = 1
USABLE_SHARE = 0.05
"""A count that one image in twenty has is found within 60 images in 95 % of the searches; a rarer one is hopeless."""

OFFSETS = (1, 2, 3, 4, 6, 8, 12)
"""Measured from the highest number word `hi`, up to `hi` itself; downwards, the axis leads to a number word."""


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
        """Mean count."""
        return sum(count * images for count, images in self.images.items()) / sum(self.images.values())

    def share(self, count: int) -> float:
        """Return the fraction of the images that have a count."""
        return self.images.get(count, 0) / sum(self.images.values())

    def merit(self, count: int) -> tuple[float, float]:
        """Order of points for a count, higher is better: the share of images that have it, then the nearest mean."""
        return self.share(count), -abs(self.mean - count)


@dataclass(frozen=True)
class Calibration:
    """Generated counts by number word and offset, complete or not.

    Attributes:
        backbone: what `base_model` calls the model.
        num_inference_steps, guidance_scale, height, width: of the images.
        critic: the detector that counted them: the first critic, since the judge must not choose anything.
        object_names: classes, one after the other.
        images_per_point: number of images of each point, the same seeds everywhere.
        first_seed: of those seeds.
        max_number: highest number word.
        points: number words with the offset 0 first, from 1 on, then offsets from `hi`.
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
        """The points without offset."""
        return tuple(point for point in self.points if point.offset == 0)

    @property
    def hi(self) -> int:
        """The number word whose images have most objects; what lies beyond is not in the model's vocabulary."""
        return max(self.words, key=lambda point: point.mean).number

    @property
    def lo(self) -> int:
        """The other end of the axis: half of `hi`."""
        return self.hi // 2

    @property
    def left(self) -> tuple[tuple[int, float], ...]:
        """Number and offset of the points that are still to be measured, as far as they are known."""
        words = tuple((number, 0.0) for number in range(len(self.words) + 1, self.max_number + 1))
        if words:
            return words
        measured = {point.offset for point in self.points}
        return tuple((self.hi, float(k)) for k in OFFSETS if k not in measured and k <= self.hi)

    @property
    def slid(self) -> tuple[Point, ...]:
        """The points of `hi` and of the offsets from it."""
        return tuple(point for point in self.points if point.number == self.hi)

    @property
    def offset_range(self) -> tuple[float, float]:
        """Offsets from `hi`, from that of `lo` to the farthest whose images have most objects, less half an object."""
        most = max(point.mean for point in self.slid)
        return float(self.lo - self.hi), max(point.offset for point in self.slid if point.mean >= most - 0.5)

    @property
    def max_count(self) -> int:
        """The highest count up to which every one is usable: one image in twenty, of the best point, has it."""
        count = 0
        while self.best_for(count + 1).share(count + 1) >= USABLE_SHARE:
            count += 1
        return count

    def best_for(self, count: int) -> Point:
        """Return the point whose images have a count most often; of equal ones that with the nearest mean."""
        low, high = self.offset_range
        usable = [p for p in self.points if p.number <= self.hi and low <= p.offset <= high]
        return max(usable, key=lambda point: point.merit(count))

    def as_written(self, count: int) -> Point | None:
        """Return the point of a count's own word; None where it was not measured."""
        return next((point for point in self.words if point.number == count), None)

    def ask_for(self, count: int) -> Point | None:
        """Return what to ask for instead of a count, or None where the count's own word is to be used.

        Another point is asked for beyond the vocabulary only, where the word is hopeless and the point is better.
        """
        written, best = self.as_written(count), self.best_for(count)
        if count <= self.hi:
            return None
        if written and (written.share(count) >= USABLE_SHARE or written.merit(count) >= best.merit(count)):
            return None
        return best

    def check(self, backbone: Backbone) -> None:
        """Refuse a calibration that is not complete, or of another model.

        Raises:
            ValueError: the message says which.
        """
        if self.left:
            raise ValueError(
                f"the calibration of {self.backbone} lacks {len(self.left)} points or more; run `countgen calibrate` "
                "again with the same --out, it goes on"
            )
        if self.backbone != base_model(backbone):
            raise ValueError(f"the calibration is of {self.backbone}, the model here is {base_model(backbone)}")

    def with_point(self, number: int, offset: float, images: Mapping[int, int]) -> Calibration:
        """Return the calibration with one more point."""
        return replace(self, points=(*self.points, Point(number, offset, dict(sorted(images.items())))))

    def save(self, path: Path) -> None:
        """Write the file in one step.

        Raises:
            OSError: the folder is missing or not writable, or the disk is full; the old file is kept.
        """
        lines = [json.dumps(asdict(point)) for point in self.points]
        head = json.dumps({"schema": SCHEMA, **{k: v for k, v in asdict(self).items() if k != "points"}}, indent=1)
        points = ",\n  ".join(lines)
        write_atomically(f'{head[:-2]},\n "points": [\n  {points}\n ]\n}}\n'.encode(), path)


def load_calibration(path: str | Path) -> Calibration:
    """Read a calibration, complete or not.

    Raises:
        ValueError: no file of ours, or a damaged one.
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
    # Only files that are there: a repository's name can lead nowhere else.
    files = {path.stem: path for path in FOLDER.glob("*.json")}
    return load_calibration(files[name]) if name in files else None


def find_calibration(backbone: Backbone) -> Calibration | None:
    """Return the calibration that is shipped for a backbone's weights; None where there is none."""
    return _shipped(base_model(backbone))
