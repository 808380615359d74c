"""Calibration of the number axis: measured counts by number word and offset, stored in a JSON file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, json
from msgspec.structs import replace

from countgen import miniature
from countgen.backbones import Backbone
from countgen.backbones.registry import base_model
from countgen.critics import Critic
from countgen.files.printable import printable
from countgen.files.reading import read_bytes
from countgen.files.schema import Document, Whole, decoded, encoded
from countgen.files.writing import write_atomically
from countgen.methods.acceptance import Acceptance
from countgen.prompts import MAX_TARGET_COUNT

FOLDER = miniature.FOLDER / "calibrations"
"""Folder with one file per calibrated model, named by `base_model`: "miniature.json"."""

MAX_FILE_BYTES = 4 * 1024 * 1024
USABLE_SHARE = 0.05
"""Share of images with a count above which a search is worth it: 60 images then contain one in 95 % of the searches."""

OFFSETS = (1, 2, 3, 4, 6, 8, 12)
"""Measured from the highest number word `hi`, up to `hi` itself; downwards, the axis leads to a number word."""

Count = Annotated[int, Meta(ge=0, le=1_000_000)]


class Point(Document, frozen=True):
    """The counts of the images generated for one number word and offset.

    Attributes:
        number: the number word.
        offset: along the axis, in objects.
        images: number of images by their count.
    """

    number: Count
    offset: Annotated[float, Meta(ge=-MAX_TARGET_COUNT, le=MAX_TARGET_COUNT)]
    images: dict[Count, Count]

    def __post_init__(self) -> None:
        if not any(self.images.values()):
            raise ValueError("it has no images")

    @property
    def mean(self) -> float:
        """Mean count of the images."""
        return sum(count * images for count, images in self.images.items()) / sum(self.images.values())

    def share(self, count: int) -> float:
        """Return the fraction of the images with a count."""
        return self.images.get(count, 0) / sum(self.images.values())

    def score(self, count: int) -> tuple[float, float]:
        """Return the sort key of points for a count, higher is better: its share of images, then the nearest mean."""
        return self.share(count), -abs(self.mean - count)


class Calibration(Document, frozen=True):
    """A calibration of the number axis: generated counts by number word and offset, complete or partial.

    Attributes:
        backbone: the model, as `base_model` names it.
        num_inference_steps, guidance_scale, height, width: of the images.
        critic: the detector that counted: the first critic, since the judge must not influence a run.
        object_names: classes, in turn.
        images_per_point: number of images of each point, with the same seeds for all points.
        first_seed: of those seeds.
        max_number: highest number word.
        offsets: to measure; none for a model whose prompt embeddings cannot be moved.
        points: number words from 1 on with the offset 0, then offsets from `hi`.
        loaded_as: dtype, scheduler and LoRAs of the model.
        acceptance: P(right) of the model's images by the margins of its critics; None if it was not fitted.
    """

    backbone: str
    num_inference_steps: Whole
    guidance_scale: float
    height: Whole
    width: Whole
    critic: str
    object_names: tuple[str, ...]
    images_per_point: Whole
    first_seed: Whole
    max_number: Annotated[int, Meta(ge=2, le=MAX_TARGET_COUNT)]
    offsets: tuple[Count, ...] = OFFSETS
    points: tuple[Point, ...] = ()
    loaded_as: tuple[str, ...] = ()
    acceptance: Acceptance | None = None
    schema: Literal[1] = 1

    def __post_init__(self) -> None:
        words = [point.number for point in self.words]
        if words != list(range(1, len(words) + 1)) or len(words) > self.max_number:
            raise ValueError("its number words are not 1, 2, 3, ...")
        moved = {point.number for point in self.points if point.offset}
        if moved and (not words or moved != {self.hi} or self.hi < 2):
            raise ValueError("its offsets do not start at the number word with most objects")

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
        return tuple((self.hi, float(k)) for k in self.offsets if k not in measured and k <= self.hi)

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
        return max(usable, key=lambda point: point.score(count))

    def as_written(self, count: int) -> Point | None:
        """Return the point of a count's own number word, or None if it was not measured."""
        return next((point for point in self.words if point.number == count), None)

    def replacement_for(self, count: int) -> Point | None:
        """Return the point to use in place of a count's own number word, or None to use the word.

        A count is replaced only above `hi`, where its word is below `USABLE_SHARE` and the point is better.
        """
        written, best = self.as_written(count), self.best_for(count)
        if count <= self.hi or (
            written and (written.share(count) >= USABLE_SHARE or written.score(count) >= best.score(count))
        ):
            return None
        return best

    def check(self, backbone: Backbone, critics: Sequence[Critic] = ()) -> None:
        """Raise a ValueError if the calibration is incomplete, of another model or of other critics than given."""
        if self.left:
            raise ValueError(
                f"the calibration of {self.backbone} lacks {len(self.left)} points or more; run `countgen calibrate` "
                "again with the same --out to continue"
            )
        if self.backbone != base_model(backbone):
            raise ValueError(f"the calibration is of {self.backbone}, the model here is {base_model(backbone)}")
        names, fitted = {critic.name for critic in critics}, set(self.acceptance.scales if self.acceptance else ())
        if fitted and names and not names <= fitted:
            raise ValueError(
                f"the calibration is of the critics {', '.join(sorted(fitted))}, here are {', '.join(sorted(names))}; "
                "give those with --critic, or calibrate these"
            )

    def with_point(self, number: int, offset: float, images: Mapping[int, int]) -> Calibration:
        """Return the calibration with one more point."""
        return replace(self, points=(*self.points, Point(number, offset, dict(sorted(images.items())))))

    def save(self, path: Path) -> None:
        """Write the file atomically; an OSError if it cannot be written."""
        write_atomically(json.format(encoded(self), indent=1) + b"\n", path)


def load_calibration(path: str | Path) -> Calibration:
    """Read a calibration, complete or partial.

    Raises:
        ValueError: the file is damaged, or not a calibration.
        OSError: the file cannot be read.
    """
    data = read_bytes(path, MAX_FILE_BYTES)
    try:
        return decoded(data, Calibration)
    except ValueError as error:
        raise ValueError(
            f"{printable(path)} holds no calibration of the number axis: {error}; `countgen calibrate` makes one, and "
            'fits P(right) again to a file of an earlier version without its "acceptance"'
        ) from error


@cache
def _shipped(name: str) -> Calibration | None:
    # Only existing files of the folder: a repository's name cannot lead outside it.
    files = {path.stem: path for path in FOLDER.glob("*.json")}
    return load_calibration(files[name]) if name in files else None


def find_calibration(backbone: Backbone) -> Calibration | None:
    """Return the shipped calibration of a backbone's weights, or None."""
    return _shipped(base_model(backbone))
