"""Read suites: shipped ones by name, other prompt lists by path."""

from __future__ import annotations

import csv
import difflib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from countgen.benchmarks.evaluation.suites.prompt import Prompt
from countgen.critics.vocabulary import singular
from countgen.prompts import Target, parse, targets_from
from countgen.prompts.number_words import value_of

DATA = Path(__file__).parent / "data"

_SUFFIXES = (".jsonl", ".json", ".csv", ".txt")
# GenEval's spelling of three classes of COCO.
GENEVAL_NAMES = {"computer mouse": "mouse", "tv remote": "remote", "computer keyboard": "keyboard"}

HOW_MANY = re.compile(r"How many (?P<objects>.+?) (?:are|is) (?:there )?in the (?:image|picture)\?", re.IGNORECASE)
"""Question for a number, in GenEval 2 and GeckoNum."""
_GECKONUM_ENTITIES = re.compile(r"[^:,]+:\d+(?:\s*,\s*[^:,]+:\d+)*")

Row = tuple[str, dict[str, Any]]
"""Position in the file, for messages, and content."""


def available() -> tuple[str, ...]:
    """Return the names of the shipped suites."""
    return tuple(sorted(path.stem for path in DATA.glob("*.jsonl")))


def load(name_or_path: str | Path, known_names: Sequence[str] | None = None) -> tuple[Prompt, ...]:
    """Return the prompts of a shipped suite, or of a file.

    Files, by their ending; `targets` are read from the prompt where they are missing:

    - `.jsonl`: one object a line, {"prompt", "targets": {"apple": 7}, "tags": {...}}; or GenEval's
      `evaluation_metadata.jsonl`, of which the lines tagged "counting" are read: the others are about colours and
      positions, which no count can judge; or GenEval 2's `geneval2_data.jsonl`, of which the prompts with a question
      for a number are read, with these questions as targets.
    - `.json`: a list of such objects; or `CoCoCount.json`, whose seeds are kept as the tag "seed".
    - `.csv`: with a header; columns `prompt`, `targets` ("apple=7,dog=2"), every other column is a tag; or GeckoNum's
      `prompts.csv`, of which the prompts with whole numbers only are read.
    - `.txt`: one prompt a line; blank lines and lines that begin with "#" are skipped.

    Args:
        name_or_path: a name from `available()`, or a file.
        known_names: classes of the critic, to read prompts without targets with.

    Raises:
        ValueError: no such suite, no prompts, or a row that cannot be read; the message names the line.
        OSError: the file cannot be read.
    """
    name = str(name_or_path)
    path = DATA / f"{name}.jsonl" if name in available() else Path(name_or_path)
    if path.suffix.lower() not in _SUFFIXES or not path.is_file():
        near = difflib.get_close_matches(name, available(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(
            f"no suite {name!r}; {hint}give one of {', '.join(available())}, "
            f"or an existing file that ends in {', '.join(_SUFFIXES)}"
        )
    prompts, skipped = [], 0
    for where, row in _rows(path):
        if _is_not_about_counts(row):
            skipped += 1
            continue
        try:
            prompts.append(_prompt(row, path.stem, known_names))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    if not prompts:
        others = f"; its {skipped} lines ask for no exact count" if skipped else ""
        raise ValueError(f"{path} holds no prompts{others}")
    return tuple(prompts)


def _is_not_about_counts(row: dict[str, Any]) -> bool:
    """Return whether a row of a published benchmark asks for something that no count can judge."""
    if "include" in row:
        return bool(row.get("tag") != "counting")
    if "vqa_list" in row:
        return "count" not in (row.get("skills") or ())
    entities = row.get("entities")
    return entities is not None and _GECKONUM_ENTITIES.fullmatch(str(entities)) is None


def _prompt(row: dict[str, Any], suite: str, known_names: Sequence[str] | None) -> Prompt:
    prompt = row.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError(f'"prompt" must be a text, got {prompt!r}')
    if "include" in row:
        return Prompt(prompt, _geneval_targets(row["include"]), suite, {"task": "counting"})
    if "vqa_list" in row:
        tags = {"task": "counting", "atom_count": str(row.get("atom_count", ""))}
        return Prompt(prompt, _geneval2_targets(row["vqa_list"], row["skills"]), suite, tags)
    if "entities" in row:
        named = (entity.rpartition(":") for entity in str(row["entities"]).split(","))
        targets = tuple(Target(name.strip(), int(count)) for name, _, count in named)
        return Prompt(prompt, targets, suite, dict(row["tags"]))
    if "int_number" in row:
        targets = (_target(row.get("object"), row["int_number"]),)
        scene = str(row.get("scene") or "none")
        seed = {"seed": str(row["seed"])} if "seed" in row else {}
        return Prompt(prompt, targets, suite, {"scene": scene} | seed)
    tags = row.get("tags") or {}
    if not isinstance(tags, dict):
        raise ValueError(f'"tags" must be names with values, got {tags!r}')
    return Prompt(
        prompt,
        _targets(row.get("targets")) or parse(prompt, known_names),
        suite,
        {str(key): str(value) for key, value in tags.items()},
    )


def _targets(value: object) -> tuple[Target, ...]:
    """Return the targets of a row: {"apple": 7}, "apple=7" or nothing."""
    if not value:
        return ()
    if isinstance(value, str):
        return targets_from(value)
    if isinstance(value, dict):
        return tuple(_target(name, count) for name, count in value.items())
    raise ValueError(f'"targets" must be like {{"apple": 7}} or "apple=7", got {value!r}')


def _target(name: object, count: object) -> Target:
    if not isinstance(name, str) or not isinstance(count, int):
        raise ValueError(f"an object needs a name and a whole number, got {name!r} and {count!r}")
    return Target(name, count)


def _geneval_targets(include: object) -> tuple[Target, ...]:
    if not isinstance(include, list) or not all(isinstance(entry, dict) for entry in include):
        raise ValueError(f'"include" must be a list of {{"class", "count"}}, got {include!r}')
    targets = [_target(entry.get("class"), entry.get("count")) for entry in include]
    return tuple(replace(t, object_name=GENEVAL_NAMES.get(t.object_name, t.object_name)) for t in targets)


def _geneval2_targets(questions: object, skills: object) -> tuple[Target, ...]:
    """Return the targets of GenEval 2's questions for a number, like ["How many cows are in the image?", "three"]."""
    if not (isinstance(questions, list) and isinstance(skills, list) and len(questions) == len(skills)):
        raise ValueError(f'"vqa_list" and "skills" must be lists of one length, got {questions!r} and {skills!r}')
    targets = []
    for pair, skill in zip(questions, skills, strict=True):
        if skill != "count":
            continue
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise ValueError(f"expected a question with its answer, got {pair!r}")
        asked = HOW_MANY.fullmatch(pair[0].strip())
        count = value_of(pair[1].strip().lower())
        if asked is None or count is None:
            raise ValueError(f"expected a question like 'How many cows are in the image?' and a number, got {pair!r}")
        targets.append(Target(singular(asked["objects"]), count))
    return tuple(targets)


def _rows(path: Path) -> Iterator[Row]:
    """Return every row of a file with its position for messages."""
    try:
        if path.suffix.lower() == ".json":
            entries = _json(path.read_text(encoding="utf-8-sig"), f"{path}")
            if not isinstance(entries, list):
                raise ValueError(f"{path} must hold a JSON list of prompts, got a {type(entries).__name__}")
            for number, entry in enumerate(entries, start=1):
                yield _object(entry, f"{path}, entry {number}")
            return
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                yield from _csv_rows(file, path)
                return
            for number, line in enumerate(file, start=1):
                where, text = f"{path}, line {number}", line.strip()
                if text and path.suffix.lower() == ".jsonl":
                    yield _object(_json(text, where), where)
                elif text and not text.startswith("#"):
                    yield where, {"prompt": text}
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error


def _csv_rows(file: Any, path: Path) -> Iterator[Row]:
    reader = csv.DictReader(file, strict=True)
    try:
        if "prompt" not in (reader.fieldnames or ()):
            raise ValueError(f"{path}, line 1: the header must name a column 'prompt', got {reader.fieldnames}")
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row:
                raise ValueError(f"{where}: more cells than the header has; put texts with commas in quotes")
            cells = {key: (value or "").strip() for key, value in row.items()}
            if not any(cells.values()):
                continue  # spreadsheets end files with such rows
            prompt, targets = cells.pop("prompt"), cells.pop("targets", "")
            entities = {"entities": cells.pop("entities")} if {"entities", "prompt_type"} <= cells.keys() else {}
            tags = {k: v for k, v in cells.items() if v}
            yield where, {"prompt": prompt, "targets": targets, "tags": tags} | entities
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.reader.line_num}: {error}") from error


def _json(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: no JSON ({error})") from error


def _object(entry: object, where: str) -> Row:
    if not isinstance(entry, dict):
        raise ValueError(f'{where}: expected an object like {{"prompt": "seven apples"}}, got {entry!r}')
    return where, entry
