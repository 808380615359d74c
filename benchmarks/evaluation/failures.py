"""List the failures of a run, and copy a run with only these images.

`python -m countgen.benchmarks.evaluation.failures RUN --out FOLDER` makes a small copy of a run.

It copies the settings and packs the records. Of the images it keeps those that the first judge does not accept, of
the methods named, as small JPEGs; the studies that come with countgen keep those of `auto`. The other records
are written without an image.
"""

from __future__ import annotations

import argparse
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from countgen.benchmarks.evaluation.metrics import by_arm, counts, is_right, target_counts
from countgen.benchmarks.evaluation.records import SETTINGS, Record, pack, read_run, to_line
from countgen.files.image_file import open_image

MOST_SHOWN = 24
"""Number of failures of one method on a page."""

IMAGES = "images"
SIDE = 96
_QUALITY = 78


def failures(records: Sequence[Record], judge: str) -> list[Record]:
    """Return the records that are wrong by a judge: those that failed, then those with the largest error."""
    return sorted((one for one in records if not is_right(one, judge)), key=lambda one: -_distance(one, judge))


def _distance(record: Record, judge: str) -> float:
    found = counts(record, judge)
    if found is None:
        return math.inf
    return sum(abs(count - wanted) for count, wanted in zip(found, target_counts(record), strict=True))


def ship(run: Path, out: Path, methods: Sequence[str]) -> int:
    """Write settings, records and small failing images into a folder; return the images' bytes.

    Raises:
        ValueError: no run, or a method that it does not have.
        OSError: an image is missing, or the folder cannot be written.
    """
    _, records = read_run(run)
    arms = by_arm(records)
    unknown = [name for name in methods if name not in arms]
    if unknown:
        raise ValueError(f"{run} has no method {', '.join(unknown)}; there are: {', '.join(arms)}")
    shown = {one.key for name in methods for one in failures(arms[name], arms[name][0].judges[0])[:MOST_SHOWN]}
    shutil.rmtree(out / IMAGES, ignore_errors=True)
    (out / IMAGES).mkdir(parents=True)
    lines, size = [], 0
    for record in records:
        image = None
        if record.key in shown and record.image is not None:
            image = f"{IMAGES}/{record.key}.jpg"
            size += _small(run / record.image, out / image)
        lines.append(to_line(replace(record, image=image, before=None)))
    pack(lines, out)
    shutil.copyfile(run / SETTINGS, out / SETTINGS)
    return size


def _small(source: Path, goal: Path) -> int:
    small = open_image(source)
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    small.save(goal, "JPEG", quality=_QUALITY, optimize=True)
    return goal.stat().st_size


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m countgen.benchmarks.evaluation.failures", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="a folder that countgen eval wrote")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="its images are replaced")
    parser.add_argument("--methods", default="auto", help="methods whose failures are kept, with commas (%(default)s)")
    options = parser.parse_args(arguments)
    if options.out.resolve() == options.run.resolve():
        parser.error("--out is the run itself; its images would be lost, give another folder")
    try:
        size = ship(options.run, options.out, options.methods.split(","))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{options.out}: {len(list((options.out / IMAGES).iterdir()))} images, {size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
