"""Checks of request bodies: inputs may be plain values only, never files."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from countgen.app.demo.limits import RefusedError

MAX_FIELDS = 16
"""Maximum number of inputs of one function; the demo needs at most thirteen."""
MAX_CHOICES = 64
"""Maximum length of one list, as a multi-select field sends it."""
MAX_NUMBER = 2**53
"""Largest absolute value; a browser cannot represent every whole number above it."""

_CALL = frozenset("data event_data event_id fn_index trigger_id session_hash".split())
_CANCEL = frozenset("event_id fn_index session_hash".split())
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class UnknownFunctionError(RefusedError):
    """The request names a function that the demo does not have."""


BY_NUMBER = "predict"
"""The page's own route for functions outside the queue; the body gives the function's number."""


def check_call(content: bytes, functions: Collection[int | str], named: str | None) -> None:
    """Refuse a call unless it is a known function with plain values as inputs.

    Gradio fetches every URL and opens every path in a dictionary that is marked as a file, at any depth of an input.
    No field of the demo takes a file, so no input may contain a dictionary.

    Args:
        content: the JSON body of a request to `/queue/join` or `/run/NAME`.
        functions: ids and names of the demo's functions.
        named: NAME of the route; None if the body must give the function's id.

    Raises:
        UnknownFunctionError: the demo has no such function.
        RefusedError: the body is no JSON object, has other keys or value types, or holds a file or a URL.
    """
    call = _object(content, _CALL)
    check_inputs(call.get("data"))
    # The value of a field, or an object from the page's scripts; Gradio passes it to the demo unchecked.
    event = call.get("event_data")
    for value in event.values() if isinstance(event, dict) else [event]:
        _check_input(value, "event_data")
    number = call.get("fn_index")
    if named == BY_NUMBER and number is not None:
        named = None
    given = [one for one in (named, number) if one is not None]
    if not given or any(one not in functions for one in given):
        raise UnknownFunctionError("Unknown function.")


def check_cancel(content: bytes) -> None:
    """Refuse a request to cancel a job if it holds anything but the job's identifiers.

    Raises:
        RefusedError: the body is no JSON object, or has other keys or value types.
    """
    _object(content, _CANCEL)


def check_inputs(inputs: object) -> None:
    """Refuse inputs of a function that are not plain values or lists of them.

    Raises:
        RefusedError: the inputs are no list or too long, or one is an object, a number out of range or invalid text.
    """
    if not isinstance(inputs, list | tuple) or len(inputs) > MAX_FIELDS:
        raise RefusedError(f"data must be a list of at most {MAX_FIELDS} inputs.")
    for value in inputs:
        _check_input(value, "data")


def _check_input(value: object, where: str) -> None:
    """Refuse an input that is neither a plain value nor a list of plain values."""
    for entry in value if isinstance(value, list) and len(value) <= MAX_CHOICES else [value]:
        _check_plain(entry, where)


def _check_plain(value: object, where: str) -> None:
    """Refuse a value that is not a text, number, boolean or null."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise RefusedError(f"{where} holds an unpaired surrogate; send valid Unicode text.") from None
    elif isinstance(value, int | float):
        if not abs(value) <= MAX_NUMBER:  # not a number included
            raise RefusedError(f"{where} holds a number outside ±{MAX_NUMBER}.")
    elif value is not None:
        raise RefusedError(
            f"{where} may hold text, numbers, true, false and null; no file, address or other object is taken here."
        )


def _object(content: bytes, allowed: frozenset[str]) -> dict[str, Any]:
    """Return the JSON object of a body after checking its keys and identifiers."""
    try:
        # Decoded as UTF-8 first: given bytes, the parser would detect one of three encodings.
        found = json.loads(content.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise RefusedError("The body must be one JSON object in UTF-8.") from None
    if not isinstance(found, dict):
        raise RefusedError("The body must be one JSON object.")
    if not found.keys() <= allowed:
        raise RefusedError(f"The body may have the keys {', '.join(sorted(allowed))}, and no other.")
    for key in ("fn_index", "trigger_id"):
        if type(found.get(key)) not in (int, type(None)) or not 0 <= (found.get(key) or 0) <= MAX_NUMBER:
            raise RefusedError(f"{key} must be a whole number of 0 or above, or null.")
    for key in ("event_id", "session_hash"):
        name = found.get(key)
        if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise RefusedError(f"{key} must be 1 to 64 letters, digits, - or _, or null.")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object without duplicate keys; parsers disagree about which duplicate is valid."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a duplicate key")
    return found
