"""Labels by spreadsheet: write a CSV with a row for each image and object to count."""

from __future__ import annotations

import csv
from pathlib import Path

from countgen.benchmarks.evaluation.labels import check_labeller, questions, unlabelled
from countgen.files.printable import printable
from countgen.files.spreadsheet import cell

COLUMNS = ("image", "object", "count")


def write_sheet(run: str | Path, path: str | Path, labeller: str, *, seed: int = 0, limit: int | None = None) -> int:
    """Write the images that a person has not labelled, in their shuffled order, and return the number of images.

    The sheet holds image paths relative to the run folder and object names; no target, method or count.

    Raises:
        ValueError: no run, one without images, or nothing is left to label.
        FileExistsError: the file exists; it may hold counts.
    """
    left = unlabelled(run, labeller, seed)[:limit]
    if not questions(run):
        raise ValueError(f"{printable(run)} has no image to count: none is finished, or its records came without them")
    if not left:
        raise ValueError(
            f"{check_labeller(labeller)} has labelled every finished image of {printable(run)}; nothing is left"
        )
    with Path(path).open("x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for question in left:
            image = cell(question.image.relative_to(run).as_posix())
            writer.writerows((image, cell(name), "") for name in question.object_names)
    return len(left)
