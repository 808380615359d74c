"""The arms of an evaluation: a method, by itself, with a count token or without the number slider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from countgen import methods
from countgen.methods.settings import Settings, as_dict, with_text

_TOKEN = "+token"
_AS_WRITTEN = "+as-written"


@dataclass(frozen=True)
class Arm:
    """A variant of generation that an evaluation compares.

    Attributes:
        name: on the command line and in records, for example "auto+token".
        method: of `countgen.methods.available()`.
        with_token: whether the shipped token of the prompt's count replaces the number.
        as_written: whether counts beyond the model's number words are encoded as they are written, where the method
            would move them along the number axis.
    """

    name: str
    method: str
    with_token: bool = False
    as_written: bool = False

    def settings(self, assignments: Sequence[str]) -> Settings:
        """Return the method's settings with those of "ARM.NAME=VALUE" whose arm is this one.

        Raises:
            ValueError: an unknown setting, or a value that it does not accept.
        """
        own = [text for name, text in map(_split, assignments) if name == self.name]
        try:
            return with_text(methods.load(self.method).settings_class(), own)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error


def find(name: str) -> Arm:
    """Return an arm by its name.

    Raises:
        ValueError: no such method, or another variant.
    """
    method, _, _ = name.partition("+")
    methods.registry.check(method)
    variants = (method, method + _TOKEN, method + _AS_WRITTEN)
    if name not in variants:
        raise ValueError(f"unknown method {name!r}; give {' or '.join(variants)}")
    return Arm(name, method, with_token=name == variants[1], as_written=name == variants[2])


def canonical(names: Sequence[str], assignments: Sequence[str]) -> tuple[str, ...]:
    """Return the settings that differ from the defaults as "ARM.NAME=VALUE", each value in one canonical form.

    Args:
        names: arms of the run.
        assignments: "ARM.NAME=VALUE"; of several for one setting the last holds.

    Raises:
        ValueError: another form, an arm that is not in the run, an unknown setting, or a value that it does not accept.
    """
    for assignment in assignments:
        named, _ = _split(assignment)
        if named not in names:
            raise ValueError(
                f"cannot set {assignment!r}: the run has no method {named!r}; it has {', '.join(names)}; write "
                "METHOD.NAME=VALUE, for example noise.learning_rate=0.1"
            )
    differing = []
    for arm in map(find, names):
        defaults = as_dict(arm.settings(()))
        values = as_dict(arm.settings(assignments))
        differing += [f"{arm.name}.{name}={value}" for name, value in values.items() if value != defaults[name]]
    return tuple(differing)


def _split(assignment: str) -> tuple[str, str]:
    """Return the arm's name and "NAME=VALUE" of "ARM.NAME=VALUE"."""
    arm, _, text = assignment.partition(".")
    return arm.strip(), text
