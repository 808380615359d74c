"""Image quality without a model: simple statistics of pixels, and how a method moves them against the plain images.

They say nothing of beauty. A method that darkens, blows out, smears or empties images while its score rises moves at
least one of them by more than plain images differ from each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import laplace, sobel

from countgen.benchmarks.evaluation.records import Record
from countgen.files.image_file import open_image

DARK, BLOWN = 15, 240
"""Pixels with no channel above `DARK`, or none below `BLOWN`, of 255."""
EDGE = 0.1
"""Length of the luma's gradient per pixel above which a pixel is on an edge, of 1."""
FLAGGED = 1.0
"""Mean change above which a method is flagged, in standard deviations of the plain images."""
LEAST = {"dark": 0.01, "blown": 0.01, "edges": 0.01, "colour_entropy": 0.1}
"""Mean change that is never flagged, however alike the plain images are: one image of many can exceed their spread."""
LEAST_SHARPNESS = 0.1
"""The same for sharpness, as a fraction of the plain images' mean."""
MOST_IMAGES = 200
"""Number of images of a method that are measured at most, so that a report takes seconds."""

_LEVELS = 8
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class ImageStatistics:
    """Statistics of the pixels of one image.

    Attributes:
        dark, blown: fraction of nearly black and of nearly white pixels, in [0, 1].
        edges: fraction of pixels on an edge of the luma, by the Sobel gradient, in [0, 1].
        colour_entropy: Shannon entropy of the histogram of colours in 8 x 8 x 8 cells, 0 to 9 bits.
        sharpness: variance of the luma's Laplacian, for a luma in [0, 1]; a smeared image has less.
    """

    dark: float
    blown: float
    edges: float
    colour_entropy: float
    sharpness: float


NAMES = tuple(field.name for field in fields(ImageStatistics))


@dataclass(frozen=True)
class Shift:
    """How a method moves one statistic, over pairs of an image and the plain image of its seed.

    Attributes:
        plain: mean of the plain images.
        change: mean of the image's value less the plain image's.
        spread: standard deviation of the plain images; NaN for fewer than two.
        least: change that is never flagged.
    """

    plain: float
    change: float
    spread: float
    least: float

    @property
    def flagged(self) -> bool:
        """Whether the mean change is larger than the plain images' spread, and than what is never flagged."""
        spread = self.spread if self.spread > 0 else 0.0  # NaN for a single image
        return abs(self.change) > max(FLAGGED * spread, self.least)


@dataclass(frozen=True)
class ImageQuality:
    """The statistics of a method's images against the plain images.

    Attributes:
        images: number of measured pairs.
        shifts: by name of the statistic.
    """

    images: int
    shifts: dict[str, Shift]

    @property
    def flagged(self) -> tuple[str, ...]:
        """Names of the statistics that are flagged."""
        return tuple(name for name, shift in self.shifts.items() if shift.flagged)


def image_statistics(pixels: NDArray[np.uint8]) -> ImageStatistics:
    """Return the statistics of an image.

    Args:
        pixels: RGB (H, W, 3), 8 bits.
    """
    luma = pixels @ np.array(_LUMA) / 255
    # Sobel's weights add up to 8: a ramp of 1 a pixel has length 1.
    gradient = np.hypot(sobel(luma, 0, mode="nearest"), sobel(luma, 1, mode="nearest")) / 8
    cells = (pixels // (256 // _LEVELS)).astype(np.intp) @ np.array([_LEVELS**2, _LEVELS, 1])
    shares = np.bincount(cells.ravel()) / cells.size
    shares = shares[shares > 0]
    return ImageStatistics(
        dark=float((pixels.max(-1) <= DARK).mean()),
        blown=float((pixels.min(-1) >= BLOWN).mean()),
        edges=float((gradient > EDGE).mean()),
        colour_entropy=max(0.0, float(-(shares * np.log2(shares)).sum())),
        sharpness=float(laplace(luma, mode="nearest").var()),
    )


def image_quality(records: Sequence[Record], image_path: Callable[..., Path | None]) -> ImageQuality | None:
    """Return how a method moves the statistics; None without a pair of different images.

    Args:
        records: of one method; the first `MOST_IMAGES` that have an image and a different plain one are measured.
        image_path: function from a record to the path of its image, or with `before=True` of the plain image.
    """
    paths = ((image_path(record), image_path(record, before=True)) for record in records)
    pairs = islice(((after, before) for after, before in paths if after and before and after != before), MOST_IMAGES)
    measured = [(statistics_of(after), statistics_of(before)) for after, before in pairs]
    known = [(astuple(after), astuple(before)) for after, before in measured if after and before]
    if not known:
        return None
    values, plain = np.array(known).swapaxes(0, 1)
    shifts = {}
    for name, after, before in zip(NAMES, values.T, plain.T, strict=True):
        mean, spread = float(before.mean()), float(before.std(ddof=1)) if len(known) > 1 else math.nan
        shifts[name] = Shift(mean, float((after - before).mean()), spread, LEAST.get(name, LEAST_SHARPNESS * mean))
    return ImageQuality(len(known), shifts)


def statistics_of(path: Path) -> ImageStatistics | None:
    """Return the statistics of an image file, None for one that cannot be read: the report names it elsewhere."""
    try:
        return image_statistics(np.asarray(open_image(path)))
    except (OSError, ValueError):
        return None
