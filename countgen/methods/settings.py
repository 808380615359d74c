"""Settings of methods: each declares its meaning, range and default once, and its values are checked."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from countgen.plugins import check_name

_BOUNDS = {"at_least": operator.ge, "above": operator.gt, "at_most": operator.le, "below": operator.lt}


@dataclass(frozen=True)
class Range:
    """The accepted values of a setting: numbers within bounds, or one of several words.

    Attributes:
        at_least, above, at_most, below: bounds of a number; None for none.
        choices: the accepted words; empty for a number.
        or_function: whether a function is accepted in place of a word, which names one.
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    or_function: bool = False

    def __contains__(self, value: object) -> bool:
        if self.choices:
            return (self.or_function and callable(value)) or value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return all(_BOUNDS[name](value, bound) for name, bound in self._bounds)

    def __str__(self) -> str:
        if self.choices:
            return "one of " + ", ".join(self.choices)
        return " and ".join(f"{name.replace('_', ' ')} {bound:g}" for name, bound in self._bounds) or "any number"

    @property
    def _bounds(self) -> list[tuple[str, float]]:
        return [(name, bound) for name in _BOUNDS if (bound := getattr(self, name)) is not None]


def setting(default: Any, meaning: str, **accepted: Any) -> Any:
    """Declare a setting of a `Settings` dataclass.

    Args:
        default: an int, float, bool or str; its type is the setting's.
        meaning: a phrase for help texts.
        accepted: fields of `Range`.
    """
    return field(default=default, metadata={"meaning": meaning, "range": Range(**accepted)})


@dataclass(frozen=True)
class Settings:
    """Base class of every method's settings.

    Raises:
        ValueError: a value of another type or outside its range; the message names the range.
    """

    def __post_init__(self) -> None:
        for field_ in fields(self):
            accepted, value = field_.metadata.get("range"), getattr(self, field_.name)
            if accepted is None or (isinstance(field_.default, bool) and isinstance(value, bool)):
                continue
            whole = isinstance(field_.default, int) and not isinstance(field_.default, bool)
            if value not in accepted or (whole and type(value) is not int):
                number_type = "a whole number, " if whole else ""
                raise ValueError(f"{field_.name} must be {number_type}{accepted}, got {value!r}")


@dataclass(frozen=True)
class Description:
    """The description of a setting for help texts and forms.

    Attributes:
        name: as `with_text` takes it, "refinement.learning_rate" for a setting of nested settings.
        meaning, accepted: text.
        default: the current value.
        choices: accepted words; empty for numbers and booleans.
    """

    name: str
    meaning: str
    accepted: str
    default: Any
    choices: tuple[str, ...] = ()


def describe(settings: Settings, prefix: str = "") -> Iterator[Description]:
    """Yield the description of every setting that can be written as text, nested ones last."""
    nested = []
    for one in fields(settings):
        value = getattr(settings, one.name)
        if isinstance(value, Settings):
            nested.append((one.name, value))
        elif "meaning" in one.metadata:
            accepted = "true or false" if isinstance(value, bool) else str(one.metadata["range"])
            choices = one.metadata["range"].choices
            value = getattr(value, "__qualname__", value)  # of a function that was given in place of its name
            yield Description(prefix + one.name, one.metadata["meaning"], accepted, value, choices)
    for name, value in nested:
        yield from describe(value, f"{prefix}{name}.")


S = TypeVar("S", bound=Settings)


def with_text(settings: S, assignments: Sequence[str]) -> S:
    """Return the settings with values given as "NAME=VALUE".

    Raises:
        ValueError: another form, an unknown name, or a value that the setting does not accept; the message lists what
            is accepted.
    """
    known = {description.name: description for description in describe(settings)}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip()
        if not equals:
            raise ValueError(f"cannot read the setting {assignment!r}; write NAME=VALUE, for example learning_rate=0.1")
        check_name("setting", name, known)
        settings = _replaced(settings, name.split("."), _value(known[name], text.strip()))
    return settings


def _value(description: Description, text: str) -> Any:
    default = description.default
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[text.lower()]
        return type(default)(text)
    except (KeyError, ValueError):
        number_type = "a whole number, " if type(default) is int else ""
        raise ValueError(f"{description.name} must be {number_type}{description.accepted}, got {text!r}") from None


def _replaced(settings: Any, path: Sequence[str], value: Any) -> Any:
    name, *rest = path
    return replace(settings, **{name: _replaced(getattr(settings, name), rest, value) if rest else value})


def as_dict(settings: Settings) -> Mapping[str, Any]:
    """Return the values of the settings that `describe` lists, by name, as recipes and records hold them."""
    return {description.name: description.default for description in describe(settings)}
