"""Labels by spreadsheet: write a CSV with a row for each image and object, and read it back with counts."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from countgen.benchmarks.evaluation.labels import (
    Label,
    check_label,
    check_labeller,
    questions,
    read_labels,
    save_label,
    unlabelled,
)

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
        raise ValueError(f"{run} has no image to count: none is finished, or its records came without them")
    if not left:
        raise ValueError(f"{check_labeller(labeller)} has labelled every finished image of {run}; nothing is left")
    with Path(path).open("x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for question in left:
            for name in question.object_names:
                writer.writerow((question.image.relative_to(run).as_posix(), name, ""))
    return len(left)


def read_sheet(run: str | Path, path: str | Path, labeller: str) -> list[Label]:
    """Save the counts of a sheet as labels, and return those that are new.

    Images without a count, or with one for some of their objects only, are left for later; `UNCOUNTABLE` is an answer.
    Reading a sheet twice adds nothing.

    Raises:
        ValueError: a row that cannot be read; the message names the lines, and nothing of this sheet is saved.
    """
    images = {question.image.relative_to(run).as_posix(): question for question in questions(run)}
    counts: dict[str, dict[str, int | None]] = {}
    faults: list[str] = []
    for line, image, name, cell in _rows(Path(path)):
        question = images.get(image)
        if question is None:
            faults.append(f"line {line}: {run} has no finished image {image!r}; leave the column 'image' unchanged")
        elif name not in question.object_names:
            faults.append(f"line {line}: {image} has the objects {', '.join(question.object_names)}, not {name!r}")
        elif cell and cell != UNCOUNTABLE and not (cell.isascii() and cell.isdecimal()):
            faults.append(
                f"line {line}: {cell!r} is no whole number; write a number such as 7, {UNCOUNTABLE} where it cannot "
                "be counted, or leave the cell empty"
            )
        elif cell and name in counts.setdefault(question.key, {}):
            faults.append(f"line {line}: {image} has two rows for {name!r}; keep one")
        elif cell:
            counts[question.key][name] = None if cell == UNCOUNTABLE else int(cell)
    labels = []
    for question in images.values():
        mine = counts.get(question.key, {})
        if len(mine) == len(question.object_names):
            try:
                values = [mine[name] for name in question.object_names]
                labels.append(check_label(run, question.key, labeller, values))
            except ValueError as error:
                faults.append(f"{question.image.name}: {error}")
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise ValueError(f"{path}: {'; '.join(faults[:_SHOWN])}{more}. Nothing of this sheet was saved")
    known = set(read_labels(run))
    return [save_label(run, one.key, one.labeller, one.counts) for one in labels if one not in known]


def _rows(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """Yield (line, image, object, count) of every row; cells are separated by commas, semicolons or tabs."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            delimiter = next((sign for sign in ";\t" if sign in header), ",")
            names = next(csv.reader([header], delimiter=delimiter), [])
            if not set(COLUMNS) <= set(names):
                raise ValueError(f"{path}, line 1: the header must name {', '.join(COLUMNS)}, got {names}")
            reader = csv.reader(file, delimiter=delimiter)
            for cells in reader:
                row = dict(zip(names, map(str.strip, cells), strict=False))
                if any(row.values()):
                    yield reader.line_num + 1, row.get("image", ""), row.get("object", ""), row.get("count", "")
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV in UTF-8 ({error}); save it as such") from error
