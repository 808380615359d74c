"""What the body of a request to the demo may hold: the plain values of its fields, and no file."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from app.demo.limits import RefusedError

MAX_FIELDS = 16
"""Inputs of one function; the demo's largest has seven."""
MAX_CHOICES = 64
"""Entries of one list: what a field of several choices sends."""
MAX_NUMBER = 2**53
"""Browsers send no whole number above it."""

_CALL = frozenset("data event_data event_id fn_index trigger_id session_hash".split())
_CANCEL = frozenset("event_id fn_index session_hash".split())
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class UnknownFunctionError(RefusedError):
    """A request names a function that the demo does not have."""


def check_call(content: bytes, functions: Collection[int | str], named: str | None) -> None:
    """Refuse a call that holds anything but plain values for a function of the demo.

    Gradio fetches every address, and opens every path, that stands in a dictionary with the marks of a file, however
    deep in an input. No field of the demo takes a file, so no input may hold a dictionary at all.

    Args:
        content: the JSON body of a request to `/queue/join` or `/run/NAME`.
        functions: the demo's, by number and by name.
        named: NAME; None where the body has to name the function by number.

    Raises:
        UnknownFunctionError: no such function.
        RefusedError: no JSON object, keys or values of other types, a file, an address.
    """
    call = _object(content, _CALL)
    check_inputs(call.get("data"))
    # A field's own value, or what the page's scripts send beside it; Gradio hands it to the demo as it is.
    event = call.get("event_data")
    for value in event.values() if isinstance(event, dict) else [event]:
        _check_input(value, "event_data")
    number = call.get("fn_index")
    if (named if number is None else number) not in functions:
        raise UnknownFunctionError("There is no such function here.")


def check_cancel(content: bytes) -> None:
    """Refuse a request to cancel a job that holds anything but the job's names.

    Raises:
        RefusedError: no JSON object, keys or values of other types.
    """
    _object(content, _CANCEL)


def check_inputs(inputs: object) -> None:
    """Refuse inputs of a function that are not plain values or lists of them.

    Raises:
        RefusedError: no list, too long a list, an object, a number or a text that no browser sends.
    """
    if not isinstance(inputs, list | tuple) or len(inputs) > MAX_FIELDS:
        raise RefusedError(f"data must be a list of at most {MAX_FIELDS} inputs.")
    for value in inputs:
        _check_input(value, "data")


def _check_input(value: object, where: str) -> None:
    """Refuse what is neither a plain value nor a list of them."""
    for entry in value if isinstance(value, list) and len(value) <= MAX_CHOICES else [value]:
        _check_plain(entry, where)


def _check_plain(value: object, where: str) -> None:
    """Refuse what is no text, number, boolean or null."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise RefusedError(f"{where} holds half a character; send whole ones.") from None
    elif isinstance(value, int | float):
        if not abs(value) <= MAX_NUMBER:  # nor is what is no number
            raise RefusedError(f"{where} holds a number beyond {MAX_NUMBER}.")
    elif value is not None:
        raise RefusedError(
            f"{where} may hold text, numbers, true, false and null; no file, address or other object is taken here."
        )


def _object(content: bytes, allowed: frozenset[str]) -> dict[str, Any]:
    """The JSON object of a body, its keys and names checked."""
    try:
        # As text in UTF-8: from bytes, the parser would guess among three encodings.
        found = json.loads(content.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise RefusedError("The body must be one JSON object in UTF-8.") from None
    if not isinstance(found, dict):
        raise RefusedError("The body must be one JSON object.")
    if not found.keys() <= allowed:
        raise RefusedError(f"The body may have the keys {', '.join(sorted(allowed))}, and no others.")
    for key in ("fn_index", "trigger_id"):
        if type(found.get(key)) not in (int, type(None)) or not 0 <= (found.get(key) or 0) <= MAX_NUMBER:
            raise RefusedError(f"{key} must be a whole number of 0 or above, or null.")
    for key in ("event_id", "session_hash"):
        name = found.get(key)
        if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise RefusedError(f"{key} must be 1 to 64 letters, digits, - or _, or null.")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of different keys: parsers do not agree which of two equal ones counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found
