"""Labels from a CSV: a sheet that a person filled in, counts from elsewhere, or GeckoNum's annotations (task 1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from countgen.benchmarks.evaluation.label_sheet import COLUMNS
from countgen.benchmarks.evaluation.labels import (
    MAX_COUNT,
    Label,
    Question,
    check_labeller,
    questions,
    read_labels,
    save_label,
)
from countgen.benchmarks.evaluation.records import IMAGES
from countgen.benchmarks.evaluation.suites.readers import HOW_MANY
from countgen.critics.vocabulary import singular
from countgen.errors import RecipeError
from countgen.files.folder import readable_path
from countgen.files.printable import printable
from countgen.files.spreadsheet import read_table
from countgen.images import read_recipe

GECKONUM_COLUMNS = ("image_id", "question", "annot_id", "answer")
UNCOUNTABLE = "-"
"""A cell for objects that cannot be counted."""
_MOST_FAULTS = 10
_MOST_NAMES = 3

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


def read_sheet(run: str | Path, path: str | Path, labeller: str) -> Imported:
    """Save the counts of a filled-in sheet as labels.

    Images without a count, or with one for some of their objects only, are left for later. Reading a sheet twice adds
    nothing.

    Raises:
        ValueError: a row that cannot be read; the message names the lines, and nothing of this sheet is saved.
    """
    return _import(Path(run), Path(path), check_labeller(labeller), is_sheet=True)


def import_labels(run: str | Path, path: str | Path, labeller: str) -> Imported:
    """Save the counts of a CSV from elsewhere as labels; rows that do not fit the run are counted and left out.

    An image is named by its file name in the run, or by that of the file which it was given as. Columns `image`,
    `object` and `count` (`UNCOUNTABLE` is one), and `labeller` where several people counted; without it `labeller` is
    the name. GeckoNum's columns are `image_id`, `question`, `annot_id` and `answer`: the label of an object is the
    whole number that more than half of its annotators gave ("2-3" and "10+" are none), under the name `labeller`.

    Raises:
        ValueError: no run, other columns, no UTF-8, a name that several images of the run came with, or no row that
            fits an image and an object of the run.
    """
    return _import(Path(run), Path(path), check_labeller(labeller), is_sheet=False)


def _import(run: Path, path: Path, labeller: str, *, is_sheet: bool) -> Imported:
    images, ambiguous = _by_name(run, questions(run))
    header, rows = read_table(path, COLUMNS, *([] if is_sheet else [GECKONUM_COLUMNS]))
    cells = _geckonum_cells if set(GECKONUM_COLUMNS) <= set(header) else _cells
    votes: dict[tuple[str, str], dict[str, list[Vote]]] = {}
    unknown: dict[str, None] = {}
    no_number = 0
    faults = []
    for where, row in rows:
        image, object_name, text, person = cells(row)
        if not image or (is_sheet and not text):
            continue
        name = Path(image).name
        if name in ambiguous:
            raise ValueError(
                f"{path}: several images of {run} came with the name {name!r}; name them as the files in its folder "
                f"{IMAGES!r} are named. Nothing was saved"
            )
        question, vote = images.get(name), _vote(text)
        no_number += vote is None
        if question is None:
            unknown[name] = None
            faults.append(f"{where}: the run has no finished image {image!r}; leave the column 'image' unchanged")
            continue
        if object_name not in _names(question):
            objects = ", ".join(question.object_names)
            faults.append(f"{where}: {image} has the objects {objects}, not {object_name!r}")
            continue
        given = votes.setdefault((question.key, person or labeller), {}).setdefault(object_name, [])
        if vote is None:
            faults.append(
                f"{where}: {text!r} is not a whole number up to {MAX_COUNT}; write a number such as 7, {UNCOUNTABLE} "
                "if the objects cannot be counted, or leave the cell empty"
            )
        elif given:
            faults.append(f"{where}: {image} has two rows for {object_name!r}; keep one")
        given.append(vote)
    if is_sheet and faults:
        more = f"; and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
        raise ValueError(f"{printable('; '.join(faults[:_MOST_FAULTS]), 2000)}{more}. Nothing of this sheet was saved")
    if not is_sheet and not votes:
        shown = f", such as {', '.join(list(unknown)[:_MOST_NAMES])}" if unknown else ""
        raise ValueError(f"{path} has no count for an image and an object of {run}{shown}; nothing was saved")
    labels, incomplete = _labels(votes, {question.key: question for question in images.values()})
    new = [label for label in labels if label not in set(read_labels(run))]
    for label in new:
        save_label(run, label.key, label.labeller, label.counts)
    return Imported(len(new), len(labels) - len(new), tuple(unknown), no_number, incomplete)


def _labels(
    votes: Mapping[tuple[str, str], Mapping[str, Sequence[Vote]]], questions: Mapping[str, Question]
) -> tuple[list[Label], int]:
    """Return the labels of images all of whose objects have a count, and the number of the others."""
    labels = []
    for (key, person), given in votes.items():
        counts = [_agreed(given.get(name, ())) for name in _names(questions[key])]
        if None not in counts:
            labels.append(Label(key, person, tuple(count if isinstance(count, int) else None for count in counts)))
    return labels, len(votes) - len(labels)


def _agreed(votes: Sequence[Vote]) -> Vote:
    """Return the count of more than half of the votes."""
    ((most, number),) = Counter(votes).most_common(1) or [(None, 0)]
    return most if 2 * number > len(votes) else None


def _names(question: Question) -> list[str]:
    return [singular(printable(name)) for name in question.object_names]


def _by_name(run: Path, finished: Sequence[Question]) -> tuple[dict[str, Question], set[str]]:
    """Return images by file name, with and without its ending, in the run and in the place they came from.

    The second value are the names of that place which several images have.
    """
    own = {name: question for question in finished for name in (question.image.name, question.image.stem)}
    given: dict[str, Question] = {}
    ambiguous = set()
    for question in finished:
        image = readable_path(run, question.image.absolute())
        with suppress(OSError, RecipeError):  # generated by another program, or lost
            came_as = Path(str(read_recipe(image).get("drawn_from", "")) if image else "")
            for name in {came_as.name, came_as.stem} - own.keys() - {""}:
                if given.setdefault(name, question) is not question:
                    ambiguous.add(name)
    return given | own, ambiguous


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
