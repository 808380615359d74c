"""Labels by spreadsheet: write a CSV with a row for each image and object, and read it back with counts."""

from __future__ import annotations

import csv
from pathlib import Path

from countgen.benchmarks.evaluation.labels import (
    Label,
    Question,
    check_label,
    check_labeller,
    questions,
    read_labels,
    save_label,
    unlabelled,
)
from countgen.files.printable import printable
from countgen.files.spreadsheet import cell, read_table

COLUMNS = ("image", "object", "count")
UNCOUNTABLE = "-"
"""A cell for objects that cannot be counted."""
_SHOWN = 10


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
            for name in question.object_names:
                writer.writerow((_image_cell(run, question), cell(name), ""))
    return len(left)


def read_sheet(run: str | Path, path: str | Path, labeller: str) -> list[Label]:
    """Save the counts of a sheet as labels, and return those that are new.

    Images without a count, or with one for some of their objects only, are left for later; `UNCOUNTABLE` is an answer.
    Reading a sheet twice adds nothing.

    Raises:
        ValueError: a row that cannot be read; the message names the lines, and nothing of this sheet is saved.
    """
    images = {_image_cell(run, question): question for question in questions(run)}
    counts: dict[str, dict[str, int | None]] = {}
    faults: list[str] = []
    _, rows = read_table(Path(path), COLUMNS)
    for where, row in rows:
        image, name, count = row["image"], row["object"], row["count"]
        question = images.get(image)
        names = {cell(name): name for name in question.object_names} if question else {}
        if question is None:
            faults.append(f"{where}: the run has no finished image {image!r}; leave the column 'image' unchanged")
        elif name not in names:
            faults.append(f"{where}: {image} has the objects {', '.join(names)}, not {name!r}")
        elif count and count != UNCOUNTABLE and not (count.isascii() and count.isdecimal()):
            faults.append(
                f"{where}: {count!r} is not a whole number; write a number such as 7, {UNCOUNTABLE} where it cannot "
                "be counted, or leave the cell empty"
            )
        elif count and names[name] in counts.setdefault(question.key, {}):
            faults.append(f"{where}: {image} has two rows for {name!r}; keep one")
        elif count:
            counts[question.key][names[name]] = None if count == UNCOUNTABLE else int(count)
    labels = []
    for question in images.values():
        mine = counts.get(question.key, {})
        if len(mine) == len(question.object_names):
            try:
                values = [mine[name] for name in question.object_names]
                labels.append(check_label(run, question.key, labeller, values))
            except ValueError as error:
                faults.append(f"{path}, {question.image.name}: {error}")
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise ValueError(f"{printable('; '.join(faults[:_SHOWN]), 2000)}{more}. Nothing of this sheet was saved")
    known = set(read_labels(run))
    return [save_label(run, one.key, one.labeller, one.counts) for one in labels if one not in known]


def _image_cell(run: str | Path, question: Question) -> str:
    return cell(question.image.relative_to(run).as_posix())
