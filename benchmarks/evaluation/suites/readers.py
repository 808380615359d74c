"""Read suites: shipped ones by name, other prompt lists by path."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct, field
from msgspec.structs import astuple

from countgen import plugins
from countgen.benchmarks.evaluation.suites.prompt import Prompt
from countgen.critics.vocabulary import singular
from countgen.files.printable import printable
from countgen.files.reading import read_text
from countgen.files.schema import Name, converted, decoded
from countgen.files.spreadsheet import MAX_BYTES, read_table
from countgen.prompts import Target, parse, targets_from
from countgen.prompts.number_words import value_of

DATA = Path(__file__).parent / "data"

_SUFFIXES = (".jsonl", ".json", ".csv", ".txt")
# GenEval's spelling of three classes of COCO.
GENEVAL_NAMES = {"computer mouse": "mouse", "tv remote": "remote", "computer keyboard": "keyboard"}

HOW_MANY = re.compile(r"How many (?P<objects>.+?) (?:are|is) (?:there )?in the (?:image|picture)\?", re.IGNORECASE)
"""Question for a number, in GenEval 2 and GeckoNum."""
_GECKONUM_ENTITIES = re.compile(r"[^:,]+:\d+(?:\s*,\s*[^:,]+:\d+)*")


class _Entry(Struct, frozen=True):
    """An object of GenEval's metadata."""

    name: Name = field(name="class")
    count: int


class _Row(Struct, kw_only=True, frozen=True):
    """A prompt of a list of ours, or of a published benchmark, whose other fields are not read."""

    prompt: Annotated[str, Meta(pattern=r"\S")]
    targets: dict[str, int] | str | None = None
    tags: dict[str, str | int | float | bool | None] | None = None
    # GenEval
    include: tuple[_Entry, ...] | None = None
    tag: Any = None
    # GenEval 2
    vqa_list: tuple[tuple[str, str], ...] | None = None
    skills: tuple[str, ...] = ()
    atom_count: Any = ""
    # GeckoNum
    entities: str | None = None
    # CoCoCount
    int_number: int | None = None
    object: str = ""
    scene: str | None = None
    seed: int | None = None

    @property
    def is_about_counts(self) -> bool:
        """Whether a row of a published benchmark asks for exact counts, which can be judged."""
        if self.include is not None:
            return bool(self.tag == "counting")
        if self.vqa_list is not None:
            return "count" in self.skills
        return self.entities is None or _GECKONUM_ENTITIES.fullmatch(self.entities) is not None


def available() -> tuple[str, ...]:
    """Return the names of the shipped suites and of plug-ins."""
    return tuple(sorted({*(path.stem for path in DATA.glob("*.jsonl")), *plugins.names("suites")}))


def load(name_or_path: str | Path) -> tuple[Prompt, ...]:
    """Return the prompts of a shipped suite, or of a file; docs/evaluation.md describes the files.

    Of published benchmarks the prompts with exact counts are read: others no count can judge. Targets are read from the
    prompt where they are missing; other columns of a `.csv` are tags.

    Args:
        name_or_path: a name from `available()`, or a file. A plug-in is the path of such a file, or a function that
            returns it.

    Raises:
        ValueError: no such suite, no prompts, or a row that cannot be read; the message names the line.
        OSError: the file cannot be read.
    """
    name = str(name_or_path)
    path = _path(name)
    if path.suffix.lower() not in _SUFFIXES or not path.is_file():
        near = difflib.get_close_matches(name, available(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(
            f"no suite {printable(name)!r}; {hint}give one of {', '.join(available())}, "
            f"or an existing file that ends in {', '.join(_SUFFIXES)}"
        )
    prompts, skipped = [], 0
    for where, document in _documents(path):
        try:
            row = converted(document, _Row)
            if row.is_about_counts:
                prompts.append(_prompt(row, printable(path.stem)))
            else:
                skipped += 1
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    if not prompts:
        others = f"; its {skipped} lines do not ask for exact counts" if skipped else ""
        raise ValueError(f"{printable(path)} holds no prompts{others}")
    return tuple(prompts)


def _path(name: str) -> Path:
    shipped = DATA / f"{name}.jsonl"
    if name in available() and shipped.is_file():
        return shipped
    if name in plugins.names("suites"):
        plugged = plugins.load("suites", name)
        return Path(plugged() if callable(plugged) else plugged)
    return Path(name)


def _prompt(row: _Row, suite: str) -> Prompt:
    prompt = row.prompt
    if any(char < " " and not char.isspace() for char in prompt):
        raise ValueError(f"the prompt contains control characters: {printable(prompt, 200)}")
    if row.include is not None:
        targets = tuple(Target(GENEVAL_NAMES.get(name, name), count) for name, count in map(astuple, row.include))
        return Prompt(prompt, targets, suite, {"task": "counting"})
    if row.vqa_list is not None:
        tags = {"task": "counting", "atom_count": str(row.atom_count)}
        return Prompt(prompt, _geneval2_targets(row), suite, tags)
    own_tags = {name: str(value) for name, value in (row.tags or {}).items()}
    if row.entities is not None:
        named = (entity.rpartition(":") for entity in row.entities.split(","))
        targets = tuple(Target(name.strip(), int(count)) for name, _, count in named)
        return Prompt(prompt, targets, suite, own_tags)
    if row.int_number is not None:
        seed = {} if row.seed is None else {"seed": str(row.seed)}
        return Prompt(prompt, (Target(row.object, row.int_number),), suite, {"scene": row.scene or "none"} | seed)
    if isinstance(row.targets, dict):
        targets = tuple(Target(name, count) for name, count in row.targets.items())
    else:
        targets = targets_from(row.targets) if row.targets else ()
    return Prompt(prompt, targets or parse(prompt), suite, own_tags)


def _geneval2_targets(row: _Row) -> tuple[Target, ...]:
    """Return the targets of GenEval 2's questions for a number, like ["How many cows are in the image?", "three"]."""
    questions = row.vqa_list or ()
    if len(questions) != len(row.skills):
        raise ValueError(f"vqa_list has {len(questions)} questions, and skills {len(row.skills)}")
    targets = []
    for (question, answer), skill in zip(questions, row.skills, strict=True):
        if skill != "count":
            continue
        asked, count = HOW_MANY.fullmatch(question.strip()), value_of(answer.strip().lower())
        if asked is None or count is None:
            raise ValueError(
                "expected a question like 'How many cows are in the image?' and a number, got "
                f"{printable([question, answer], 200)}"
            )
        targets.append(Target(singular(asked["objects"]), count))
    return tuple(targets)


def _documents(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the content of every row of a file with its position, for messages."""
    name, suffix = printable(path), path.suffix.lower()
    if suffix == ".csv":
        yield from _csv_documents(path)
    elif suffix == ".json":
        try:
            entries = decoded(read_text(path, MAX_BYTES), list[Any])
        except ValueError as error:
            raise ValueError(f"{name} must hold a JSON list of prompts: {error}") from error
        yield from ((f"{name}, entry {number}", entry) for number, entry in enumerate(entries, start=1))
    else:
        for number, line in enumerate(read_text(path, MAX_BYTES).split("\n"), start=1):
            where, text = f"{name}, line {number}", line.strip()
            if text and suffix == ".jsonl":
                try:
                    document = decoded(text, dict[str, Any])
                except ValueError as error:
                    raise ValueError(f'{where} is not an object like {{"prompt": "seven apples"}}: {error}') from error
                yield where, document
            elif text and not text.startswith("#"):
                yield where, {"prompt": text}


def _csv_documents(path: Path) -> Iterator[tuple[str, Any]]:
    header, rows = read_table(path, ("prompt",))
    geckonum = {"entities", "prompt_type"} <= set(header)
    for where, cells in rows:
        document: dict[str, Any] = {"prompt": cells.pop("prompt"), "targets": cells.pop("targets", "")}
        if geckonum:
            document["entities"] = cells.pop("entities")
        yield where, document | {"tags": {name: text for name, text in cells.items() if text}}
