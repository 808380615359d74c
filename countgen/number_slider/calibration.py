"""Calibration of the number axis: measured counts by number word and offset, stored in a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from countgen import miniature
from countgen.backbones import Backbone
from countgen.backbones.registry import base_model
from countgen.files.printable import printable
from countgen.files.reading import read_bytes
from countgen.files.writing import write_atomically
from countgen.prompts import MAX_TARGET_COUNT

FOLDER = miniature.FOLDER / "calibrations"
"""Folder with one file per calibrated model, named by `base_model`: "miniature.json"."""

SCHEMA = 1
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_NUMBER = 1_000_000
"""Largest count of an image, and largest number of images, that a file may hold."""
USABLE_SHARE = 0.05
"""Share of images with a count above which a search is worth it: 60 images then contain one in 95 % of the searches."""

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
        """Mean count of the images."""
        return sum(count * images for count, images in self.images.items()) / sum(self.images.values())

    def share(self, count: int) -> float:
        """Return the fraction of the images with a count."""
        return self.images.get(count, 0) / sum(self.images.values())

    def merit(self, count: int) -> tuple[float, float]:
        """Order of points for a count, higher is better: the share of images that have it, then the nearest mean."""
        return self.share(count), -abs(self.mean - count)


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
        loaded_as: dtype, scheduler and LoRAs of the model.
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
    loaded_as: tuple[str, ...] = ()

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
        return tuple((self.hi, float(k)) for k in OFFSETS if k not in measured and k <= self.hi)

    @property
    def on_axis(self) -> tuple[Point, ...]:
        """Points of `hi` and of the offsets from it."""
        return tuple(point for point in self.points if point.number == self.hi)

    @property
    def offset_range(self) -> tuple[float, float]:
        """Offsets from `hi`, from that of `lo` to the farthest whose images have most objects, less half an object."""
        most = max(point.mean for point in self.on_axis)
        return float(self.lo - self.hi), max(point.offset for point in self.on_axis if point.mean >= most - 0.5)

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
        return max(usable, key=lambda point: point.merit(count))

    def as_written(self, count: int) -> Point | None:
        """Return the point of a count's own number word; None where it was not measured."""
        return next((point for point in self.words if point.number == count), None)

    def replacement_for(self, count: int) -> Point | None:
        """Return the point to use in place of a count's own number word, or None where that word is used.

        A count is replaced only above `hi`, where its word is below `USABLE_SHARE` and the point is better.
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
    data = read_bytes(path, MAX_FILE_BYTES)
    try:
        stored: dict[str, Any] = json.loads(data.decode())
        schema, points = stored.pop("schema"), stored.pop("points")
        if schema != SCHEMA:
            raise ValueError(f"its schema is {schema!r}, this version reads {SCHEMA}")
        lists = {"object_names": stored["object_names"], "loaded_as": stored["loaded_as"]}
        found = Calibration(**{**stored, **{name: tuple(values) for name, values in lists.items()}})
        found = replace(found, points=tuple(_point(point) for point in points))
        _check(found)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} holds no calibration of the number axis: {printable(error, 200)}; `countgen calibrate` makes one"
        ) from error
    return found


def _point(stored: Any) -> Point:
    """Return a point of a file; numbers beyond what any model generates are refused."""
    images = {int(count): number for count, number in stored["images"].items()}
    number, offset = stored["number"], stored["offset"]
    whole = (number, *images, *images.values())
    if not (
        all(type(value) is int and 0 <= value <= MAX_NUMBER for value in whole)
        and any(images.values())
        and type(offset) in (int, float)
        and abs(offset) <= MAX_TARGET_COUNT
    ):
        raise ValueError("a point has impossible images or an impossible number or offset")
    return Point(number, float(offset), dict(sorted(images.items())))


def _check(calibration: Calibration) -> None:
    """Refuse what `countgen calibrate` does not write: another order of number words, offsets from another word."""
    if type(calibration.max_number) is not int or not 2 <= calibration.max_number <= MAX_TARGET_COUNT:
        raise ValueError(f"its max_number is no whole number from 2 to {MAX_TARGET_COUNT}")
    words = [point.number for point in calibration.words]
    if words != list(range(1, len(words) + 1)) or len(words) > calibration.max_number:
        raise ValueError("its number words are not 1, 2, 3, ...")
    moved = {point.number for point in calibration.points if point.offset}
    if moved and (moved != {calibration.hi} or calibration.hi < 2):
        raise ValueError("its offsets do not start at the number word with most objects")


@cache
def _shipped(name: str) -> Calibration | None:
    # Only existing files of the folder: a repository's name cannot lead outside it.
    files = {path.stem: path for path in FOLDER.glob("*.json")}
    return load_calibration(files[name]) if name in files else None


def find_calibration(backbone: Backbone) -> Calibration | None:
    """Return the shipped calibration for a backbone's weights; None where there is none."""
    return _shipped(base_model(backbone))
