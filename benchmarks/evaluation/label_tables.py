"""Labels as CSV: a sheet that a person fills in, counts from elsewhere, or GeckoNum's annotations (task 1)."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from countgen.benchmarks.evaluation.labels import (
    MAX_COUNT,
    Label,
    Question,
    check_labeller,
    questions,
    read_labels,
    save_labels,
)
from countgen.benchmarks.evaluation.records import IMAGES
from countgen.benchmarks.evaluation.suites.readers import HOW_MANY
from countgen.critics.vocabulary import singular
from countgen.files.printable import printable
from countgen.files.spreadsheet import cell, read_table

COLUMNS = ("image", "object", "count")
GECKONUM_COLUMNS = ("image_id", "question", "annot_id", "answer")
UNCOUNTABLE = "-"
"""A cell for objects that cannot be counted."""

Vote = int | str | None
"""A count, `UNCOUNTABLE`, or None for a cell that is neither."""


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        saved: number of new labels.
        known: number of labels that were there before.
        unknown_images: images that the run does not have, by name.
        no_number: number of rows whose count is not a whole number, nor `UNCOUNTABLE`.
        incomplete: number of images for which some object has no count on which the people agree.
    """

    saved: int
    known: int
    unknown_images: tuple[str, ...]
    no_number: int
    incomplete: int


def write_sheet(run: str | Path, path: str | Path, labeller: str, *, seed: int = 0, limit: int | None = None) -> int:
    """Write the images that a person has not labelled, in their shuffled order, and return the number of images.

    The sheet holds image paths relative to the run folder and object names; no target, method or count.

    Raises:
        ValueError: no run, one without images, or nothing is left to label.
        FileExistsError: the file exists; it may hold counts.
    """
    name = check_labeller(labeller)
    finished = questions(run, name, seed)
    if not finished:
        raise ValueError(f"{printable(run)} has no image to count: none is finished, or its records came without them")
    labelled = {label.key for label in read_labels(run) if label.labeller == name}
    left = [question for question in finished if question.key not in labelled][:limit]
    if not left:
        raise ValueError(f"{name} has labelled every finished image of {printable(run)}; nothing is left")
    with Path(path).open("x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for question in left:
            image = cell(question.image.relative_to(run).as_posix())
            writer.writerows((image, cell(name), "") for name in question.object_names)
    return len(left)


def import_labels(run: str | Path, path: str | Path, labeller: str = "", *, is_sheet: bool = False) -> Imported:
    """Save the counts of a CSV as labels; reading it twice adds nothing.

    An image is named by its file name in the run, or by its path in the list that it came with. Images with a count for
    some of their objects only are left for later. Of GeckoNum's annotations the label of an object is the whole number
    that more than half of its annotators gave ("2-3" and "10+" are none), under the name `labeller`.

    Args:
        run: its folder.
        path: of the CSV.
        labeller: name of the person, where a row names none.
        is_sheet: whether it is a sheet of `write_sheet`: every row with a count must fit the run. Rows of other tables
            that do not are counted and left out.

    Raises:
        ValueError: no run, other columns, no UTF-8, a name that several images of the list have, a row without a
            labeller, a row of a sheet that does not fit, or no row that fits. Nothing is saved.
    """
    run, path, labeller = Path(run), Path(path), labeller and check_labeller(labeller)
    images = _images_by_name(run)
    header, rows = read_table(path, COLUMNS, *([] if is_sheet else [GECKONUM_COLUMNS]))
    cells = _geckonum_cells if set(GECKONUM_COLUMNS) <= set(header) else _cells
    votes: dict[tuple[Question, str], dict[str, list[Vote]]] = {}
    unknown: dict[str, None] = {}
    no_number = 0
    for where, row in rows:
        image, object_name, text, person = cells(row)
        if not image or (is_sheet and not text):
            continue
        matching, vote, fault = images.get(str(PurePosixPath(image)), []), _vote(text), ""
        if len(matching) > 1:
            raise ValueError(
                f"several images of {run} came with the name {image!r}; give their paths in the list, such as "
                f"{matching[0].listed_as}, or their names in the folder {IMAGES!r}. Nothing was saved"
            )
        question = matching[0] if matching else None
        no_number += vote is None
        if question is None:
            unknown[image] = None
            fault = f"the run has no finished image {image!r}; leave the column 'image' unchanged"
        elif object_name not in _names(question):
            fault = f"{image} has the objects {', '.join(question.object_names)}, not {object_name!r}"
        elif not (person or labeller):
            raise ValueError(f"{where}: give --labeller NAME, or fill in the column 'labeller'; nothing was saved")
        else:
            given = votes.setdefault((question, person or labeller), {}).setdefault(object_name, [])
            given.append(vote)
            if vote is None:
                fault = (
                    f"{text!r} is not a whole number up to {MAX_COUNT}; write a number such as 7, {UNCOUNTABLE} if the "
                    "objects cannot be counted, or leave the cell empty"
                )
            elif len(given) > 1:
                fault = f"{image} has two rows for {object_name!r}; keep one"
        if is_sheet and fault:
            raise ValueError(f"{where}: {printable(fault, 1000)}. Nothing of this sheet was saved")
    if not is_sheet and not votes:
        shown = ", ".join(list(unknown)[:3]) or "none"
        raise ValueError(f"{path} has no count for an image and an object of {run}; unknown images: {shown}")
    labels, known = _labels(votes), set(read_labels(run))
    new = [label for label in labels if label not in known]
    save_labels(run, new)
    return Imported(len(new), len(labels) - len(new), tuple(unknown), no_number, len(votes) - len(labels))


def _labels(votes: Mapping[tuple[Question, str], Mapping[str, Sequence[Vote]]]) -> list[Label]:
    """Return the labels of images all of whose objects have a count."""
    labels = []
    for (question, person), given in votes.items():
        counts = [_agreed(given.get(name, ())) for name in _names(question)]
        if None not in counts:
            known = tuple(count if isinstance(count, int) else None for count in counts)
            labels.append(Label(question.key, person, known))
    return labels


def _agreed(votes: Sequence[Vote]) -> Vote:
    """Return the count of more than half of the votes."""
    ((most, number),) = Counter(votes).most_common(1) or [(None, 0)]
    return most if 2 * number > len(votes) else None


def _names(question: Question) -> list[str]:
    return [singular(printable(name)) for name in question.object_names]


def _images_by_name(run: Path) -> dict[str, list[Question]]:
    """Return the images of a run by their names, with and without ending: in the run, in their list, without a folder.

    Only a name without a folder can be that of several images.
    """
    exact, alone = dict[str, list[Question]](), dict[str, list[Question]]()
    for question in questions(run):
        listed = [PurePosixPath(question.listed_as)] if question.listed_as else []
        own = PurePosixPath(question.image.name)
        for path in (own, IMAGES / own, *listed):
            exact |= {name: [question] for name in (str(path), str(path.with_suffix("")))}
        for path in listed:
            for name in (path.name, path.stem):
                alone.setdefault(name, []).append(question)
    return alone | exact


def _cells(row: Mapping[str, str]) -> tuple[str, str, str, str]:
    """Return image, object, count and person of a row."""
    person = row.get("labeller", "")
    return row["image"], singular(row["object"].removeprefix("'")), row["count"], person and check_labeller(person)


def _geckonum_cells(row: Mapping[str, str]) -> tuple[str, str, str, str]:
    """Return the same of an annotation by GeckoNum; "" for the image if it is not about a number."""
    asked = HOW_MANY.fullmatch(row["question"])
    return (row["image_id"], singular(asked["objects"]), row["answer"], "") if asked else ("", "", "", "")


def _vote(text: str) -> Vote:
    """Return a whole number from 0 to 10 000, or `UNCOUNTABLE`; None for anything else, such as "2-3" and "10+"."""
    if text == UNCOUNTABLE:
        return text
    value = text.removesuffix(".0")
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 6 and int(value) <= MAX_COUNT else None
