"""Strict schemas of JSON from outside: a document is decoded straight into a typed class, or is an error.

msgspec checks types, ranges, required and unknown fields, non-finite numbers, lone surrogates and nesting; other
modules only declare the classes.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from countgen.files.printable import printable

T = TypeVar("T")

LONGEST_REASON = 300

Whole = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""A whole number of 64 bits, 0 or more."""

Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""An integer of 64 bits."""

Name = Annotated[str, Meta(min_length=1, max_length=1000)]
"""A name or another short text."""


class Document(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the classes of documents that only countgen writes."""


def decoded(data: bytes | str, kind: type[T]) -> T:
    """Return the JSON document in `data`.

    Args:
        data: UTF-8.
        kind: class or type of the document, with types that msgspec knows.

    Raises:
        ValueError: not JSON, or not of that kind; the message names the field and what it must be.
    """
    try:
        return msgspec.json.decode(data.encode() if isinstance(data, str) else data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(_reason(error)) from error


def converted(value: object, kind: type[T]) -> T:
    """Return a document that was read already, checked as `decoded` does.

    Raises:
        ValueError: as `decoded`.
    """
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ValueError(_reason(error)) from error


def _reason(error: Exception) -> str:
    """Return "seed: Expected `int`, got `str`" for msgspec's "Expected `int`, got `str` - at `$.seed`"."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text, _, place = str(error).partition(" - at `")
    field = place.removeprefix("$").strip(".`")
    return printable(f"{field}: {text}" if field else text, LONGEST_REASON)


def encoded(document: Any) -> bytes:
    """Return a document as JSON on one line, without a newline.

    Raises:
        ValueError: a lone surrogate, a number that is not finite, or what JSON cannot hold.
    """
    # Not msgspec's encoder, which writes null for a number that is not finite.
    try:
        plain = msgspec.to_builtins(document)
        return json.dumps(plain, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, RecursionError) as error:
        raise ValueError(_reason(error)) from error
