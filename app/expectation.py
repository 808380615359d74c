"""What `countgen count --expect` asks of an image: conditions on counts."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from typer import BadParameter

COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_CONDITION = re.compile(rf"\s*([^<>=!,]*[^<>=!,\s])\s*({'|'.join(COMPARISONS)})\s*([0-9]{{1,6}})\s*")


class Expectation(NamedTuple):
    """Conditions that all must hold, as (object name, comparison, number)."""

    conditions: tuple[tuple[str, str, int], ...]

    @property
    def object_names(self) -> tuple[str, ...]:
        """The objects that have to be counted, in their order."""
        return tuple(dict.fromkeys(name for name, _, _ in self.conditions))

    def holds(self, counts: Mapping[str, int]) -> bool:
        """Return whether counts by object name meet every condition."""
        return all(COMPARISONS[sign](counts[name], number) for name, sign, number in self.conditions)

    def __str__(self) -> str:
        return ",".join(f"{name}{sign}{number}" for name, sign, number in self.conditions)


def expectation(text: str) -> Expectation:
    """Return the conditions in a text such as "button<=1,cap=1"; names may be singular or plural."""
    from countgen.critics.vocabulary import singular  # `--help` does not wait for its imports

    conditions = []
    for part in text.split(","):
        match = _CONDITION.fullmatch(part)
        if match is None:
            raise BadParameter(
                f"cannot read {part.strip()[:60]!r}; write NAME<=N with one of {' '.join(COMPARISONS)}, "
                'in quotes, for example "button<=1,cap=1"'
            )
        conditions.append((singular(match[1]), match[2], int(match[3])))
    return Expectation(tuple(conditions))
