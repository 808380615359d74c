"""Labels from other sources: a CSV of counts by people, or the annotations of GeckoNum (task 1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from countgen.benchmarks.evaluation.label_sheet import COLUMNS, UNCOUNTABLE
from countgen.benchmarks.evaluation.labels import (
    MAX_COUNT,
    Question,
    check_label,
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
from countgen.files.spreadsheet import read_table
from countgen.images import read_recipe

GECKONUM_COLUMNS = ("image_id", "question", "annot_id", "answer")
_SHOWN = 3


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        saved: number of new labels.
        known: number of labels that were there before.
        unknown_images: images that the run does not have, by name.
        no_number: number of rows whose count is no whole number, nor `UNCOUNTABLE`.
        incomplete: number of images for which some object has no count on which the people agree.
    """

    saved: int
    known: int
    unknown_images: tuple[str, ...]
    no_number: int
    incomplete: int


@dataclass(frozen=True)
class _Count:
    image: str
    object_name: str
    labeller: str
    count: int | str | None
    """`UNCOUNTABLE` where the person could not count it, None for anything that is no count."""


def import_labels(run: str | Path, path: str | Path, labeller: str) -> Imported:
    """Save the counts of a CSV as labels of a run's images.

    An image is named by its file name in the run, or by that of the file which it was given as. Columns `image`,
    `object` and `count` (`UNCOUNTABLE` is one), and `labeller` where several people counted; without it `labeller` is
    the name. GeckoNum's
    columns are `image_id`, `question`, `annot_id` and `answer`: the label of an object is the whole number that more
    than half of its annotators gave ("2-3" and "10+" are none), under the name `labeller`.

    Raises:
        ValueError: no run, other columns, no UTF-8, a name that several images of the run came with, or no row that
            fits an image and an object of the run.
    """
    name = check_labeller(labeller)
    images, ambiguous = _by_name(Path(run), questions(run))
    geckonum, rows = _read(Path(path), name)
    doubtful = next((row.image for row in rows if row.image in ambiguous), None)
    if doubtful is not None:
        raise ValueError(
            f"{path}: several images of {run} came with the name {doubtful!r}; name them as the files in its folder "
            f"{IMAGES!r} are named. Nothing was saved"
        )
    unknown = tuple(dict.fromkeys(row.image for row in rows if row.image not in images))
    fitting = [row for row in rows if row.image in images and row.object_name in _names(images[row.image])]
    if not fitting:
        shown = f", such as {', '.join(unknown[:_SHOWN])}" if unknown else ""
        raise ValueError(f"{path} has no count for an image and an object of {run}{shown}; nothing was saved")
    votes: dict[tuple[str, str, str], list[int | str | None]] = {}
    for row in fitting:
        person = name if geckonum else row.labeller
        votes.setdefault((images[row.image].key, person, row.object_name), []).append(row.count)
    by_key = {question.key: question for question in images.values()}
    saved = known = incomplete = 0
    before = set(read_labels(run))
    for key, person in dict.fromkeys((key, person) for key, person, _ in votes):
        counts = [_agreed(votes.get((key, person, name), [])) for name in _names(by_key[key])]
        if None in counts:
            incomplete += 1
            continue
        label = check_label(run, key, person, [count if isinstance(count, int) else None for count in counts])
        if label in before:
            known += 1
        else:
            save_label(run, key, person, label.counts)
            saved += 1
    return Imported(saved, known, unknown, sum(row.count is None for row in rows), incomplete)


def _agreed(votes: Iterable[int | str | None]) -> int | str | None:
    """Return the count of more than half of the votes."""
    found = Counter(votes)
    most, number = found.most_common(1)[0] if found else (None, 0)
    return most if 2 * number > found.total() else None


def _names(question: Question) -> list[str]:
    return [singular(name) for name in question.object_names]


def _by_name(run: Path, found: Sequence[Question]) -> tuple[dict[str, Question], set[str]]:
    """Return images by file name, with and without its ending, in the run and in the place they came from.

    The second value are the names of that place which several images have.
    """
    own = {name: one for one in found for name in (one.image.name, one.image.stem)}
    given: dict[str, Question] = {}
    ambiguous = set()
    for question in found:
        image = readable_path(run, question.image.absolute())
        with suppress(OSError, RecipeError):  # generated by another program, or lost
            came_as = Path(str(read_recipe(image).get("drawn_from", "")) if image else "")
            for name in {came_as.name, came_as.stem} - own.keys() - {""}:
                if given.setdefault(name, question) is not question:
                    ambiguous.add(name)
    return given | own, ambiguous


def _read(path: Path, labeller: str) -> tuple[bool, list[_Count]]:
    """Return whether a file is GeckoNum's, and its rows."""
    header, rows = read_table(path, COLUMNS, GECKONUM_COLUMNS)
    geckonum = set(GECKONUM_COLUMNS) <= set(header)
    cells = (row for _, row in rows)
    return geckonum, list(_geckonum(cells) if geckonum else _plain(cells, labeller))


def _plain(rows: Iterable[Mapping[str, str]], labeller: str) -> Iterator[_Count]:
    for row in rows:
        if row["image"]:
            person = check_labeller(row.get("labeller") or labeller)
            yield _Count(Path(row["image"]).name, singular(row["object"]), person, _whole(row["count"]))


def _geckonum(rows: Iterable[Mapping[str, str]]) -> Iterator[_Count]:
    for row in rows:
        asked = HOW_MANY.fullmatch(row["question"])
        if asked:
            yield _Count(row["image_id"], singular(asked["objects"]), row["annot_id"], _whole(row["answer"]))


def _whole(text: str) -> int | str | None:
    """Return a whole number from 0 to 10 000, or `UNCOUNTABLE`; None for anything else, such as "2-3" and "10+"."""
    if text == UNCOUNTABLE:
        return text
    value = text.removesuffix(".0")
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 6 and int(value) <= MAX_COUNT else None
