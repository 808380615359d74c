"""Check the types of a record or of settings that come from JSON."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

_NONE = type(None)
_TEXT, _INTEGER, _NUMBERS, _LIST, _TRUTH = {str}, {int}, {int, float}, {list}, {bool}
_FOUR, _THREE = {4}, {3}

_RECORD: dict[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(("key", "suite", "level", "prompt", "backbone", "method", "status"), ((str,), "a text")),
    **dict.fromkeys(("error", "image", "before"), ((str, _NONE), "a text or null")),
    **dict.fromkeys(("critics", "judges"), ((list,), "a list of names")),
    **dict.fromkeys(("seed", "evaluations"), ((int,), "a whole number")),
    "targets": ((dict,), "a count for each object"),
    "critic_counts": ((list,), "a list of whole numbers"),
    "judge_counts": ((dict,), "whole numbers for each judge"),
    "confidence": ((dict,), "a number for each judge"),
    "boxes": ((dict,), "lists of four numbers for each judge"),
    "confirmed": ((bool,), "true or false"),
    "trace": ((list,), "lists of evaluations, seconds, and true or false"),
    "seconds": ((float, int), "a number"),
    "peak_bytes": ((int, _NONE), "a whole number or null"),
    "truncated": ((bool, _NONE), "true, false or null"),
    **dict.fromkeys(
        ("objects_kept", "background_change", "structural_similarity"), ((float, int, _NONE), "a number or null")
    ),
}
_SETTINGS: dict[str, tuple[tuple[type, ...], str]] = {
    "methods": ((list,), "a list of names"),
    "backbones": ((list,), "a list of names"),
    "max_evaluations": ((int, _NONE), "a whole number or null"),
    "max_seconds": ((float, int, _NONE), "a number or null"),
}
_VALUES = itemgetter(*_RECORD)
_SHOWN = 60


def check_record(document: Mapping[str, Any]) -> None:
    """Refuse a record of which a field has another type, or whose counts are not one for each object.

    Args:
        document: with all fields of a record; no number is infinite or longer than 64 bits.

    Raises:
        ValueError: the message names the first such field, its value and the expected type.
    """
    wrong = _first_wrong(tuple(map(type, _VALUES(document)))) or _first_wrong_inside(document)
    if wrong:
        raise _refused(wrong, document[wrong], _RECORD[wrong][1])
    if document["status"] not in ("done", "failed"):
        raise _refused("status", document["status"], "done or failed")
    objects = len(document["targets"])
    if len(document["critic_counts"]) not in (0, objects):
        raise ValueError(f"the critic has {len(document['critic_counts'])} counts for {objects} objects")
    for judge, counts in document["judge_counts"].items():
        if len(counts) != objects:
            raise ValueError(f"{judge} has {len(counts)} counts for {objects} objects")


@lru_cache(maxsize=64)  # of the few combinations that occur
def _first_wrong(types: tuple[type, ...]) -> str | None:
    return next(
        (name for found, (name, (allowed, _)) in zip(types, _RECORD.items(), strict=True) if found not in allowed), None
    )


def _first_wrong_inside(document: Mapping[str, Any]) -> str | None:
    """Return the first field whose elements have a wrong type; comparing sets of types is faster than a loop."""
    if not set(map(type, document["critics"])) <= _TEXT:  # none for images from another source
        return "critics"
    if set(map(type, document["judges"])) != _TEXT:
        return "judges"
    if set(map(type, document["targets"].values())) != _INTEGER:
        return "targets"
    if not set(map(type, document["critic_counts"])) <= _INTEGER:
        return "critic_counts"
    if not set(map(type, document["confidence"].values())) <= _NUMBERS:
        return "confidence"
    for counts in document["judge_counts"].values():
        if type(counts) is not list or not set(map(type, counts)) <= _INTEGER:
            return "judge_counts"
    for boxes in document["boxes"].values():
        if type(boxes) is not list or not set(map(type, boxes)) <= _LIST or not set(map(len, boxes)) <= _FOUR:
            return "boxes"
        if not set(map(type, chain.from_iterable(boxes))) <= _NUMBERS:
            return "boxes"
    trace = document["trace"]
    if not set(map(type, trace)) <= _LIST or not set(map(len, trace)) <= _THREE:
        return "trace"
    kinds = [*map(type, chain.from_iterable(trace))]
    if not (set(kinds[::3]) <= _INTEGER and set(kinds[1::3]) <= _NUMBERS and set(kinds[2::3]) <= _TRUTH):
        return "trace"
    return None


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse settings of which a field that reports read has another type; any may be missing.

    Raises:
        ValueError: as `check_record`.
    """
    for name, (allowed, expected) in _SETTINGS.items():
        value = settings.get(name)
        names = type(value) is not list or all(type(one) is str for one in value)
        if name in settings and not (type(value) in allowed and names):
            raise _refused(name, value, expected)


def _refused(name: str, value: Any, expected: str) -> ValueError:
    text = repr(value)
    return ValueError(f"its {name} is {text[:_SHOWN]}{'…' * (len(text) > _SHOWN)}, expected {expected}")
