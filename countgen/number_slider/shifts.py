"""Choose the shifts of a prompt: from a number offset, from the calibration, or from a recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from countgen.critics.vocabulary import singular
from countgen.errors import PromptError, RecipeError
from countgen.files.printable import printable
from countgen.number_slider.axis import NumberShift
from countgen.number_slider.calibration import Calibration
from countgen.prompts import MAX_TARGET_COUNT, Target
from countgen.prompts.number_spans import number_span
from countgen.prompts.placeholders import numbers_in

NumberOffset = float | Mapping[str, float]
"""Objects to add to the prompt's number, for every object class or by its name; 0 for the prompt as written."""


def offset_shifts(
    prompt: str,
    targets: Sequence[Target],
    known_names: Sequence[str] | None,
    calibration: Calibration | None,
    number_offset: NumberOffset,
) -> tuple[NumberShift, ...]:
    """Return the shifts for a number offset.

    The start is the target's own number word, and for N beyond the highest word hi of the vocabulary, hi moved by
    N - hi; the number offset is added to that.

    Args:
        prompt: as given.
        targets: of the prompt.
        known_names: as `countgen.prompts.parse` takes them.
        calibration: gives hi, lo and the range of offsets.
        number_offset: in objects.

    Raises:
        PromptError: the prompt does not have one number for each class that is moved.
        ValueError: no calibration, an unknown class, or an offset beyond the calibrated range.
    """
    offsets = _by_target(targets, number_offset)
    moved = {target: offset for target, offset in offsets.items() if offset}
    if moved and calibration is None:
        raise ValueError(
            "the number offset needs a calibration of this model: make one with `countgen calibrate --model NAME "
            "--out FILE` and give it with calibration=, on the command line --calibration FILE"
        )
    shifts = []
    for target, offset in moved.items():
        assert calibration is not None
        start, end = number_span(prompt, target, targets, known_names)
        number = min(target.target_count, calibration.hi)
        beyond = target.target_count - number
        low, high = (limit - beyond for limit in calibration.offset_range)
        low = max(low, -target.target_count)
        if not low <= offset <= high:
            raise ValueError(
                f"the number offset for {target.target_count} x {target.object_name} must be from {low:g} to {high:g}, "
                f"as {calibration.backbone} was calibrated, got {offset:g}"
            )
        ends = {"lo": calibration.lo, "hi": calibration.hi}
        shifts.append(NumberShift(target.object_name, start, end, number, float(beyond + offset), **ends))
    return tuple(shifts)


def calibrated_shifts(
    prompt: str, targets: Sequence[Target], known_names: Sequence[str] | None, calibration: Calibration
) -> tuple[NumberShift, ...]:
    """Return the shifts that the calibration chooses, see `Calibration.replacement_for`.

    A class that does not have one number in the prompt gets none.
    """
    shifts = []
    for target in targets:
        point = calibration.replacement_for(target.target_count)
        if point is None:
            continue
        try:
            start, end = number_span(prompt, target, targets, known_names)
        except PromptError:
            continue
        ends = {"lo": calibration.lo, "hi": calibration.hi}
        shifts.append(NumberShift(target.object_name, start, end, point.number, point.offset, **ends))
    return tuple(shifts)


def stored_shifts(stored: Any, prompt: str) -> tuple[NumberShift, ...]:
    """Return the shifts in a recipe, checked: anyone may have written its file.

    Raises:
        RecipeError: a field is missing or not possible.
    """
    spans = {(start, end) for start, end, _ in numbers_in(prompt)}
    try:
        shifts = tuple(NumberShift(**one) for one in stored)
    except TypeError as error:
        raise RecipeError(f"the recipe's number_shifts cannot be read: {printable(error, 200)}") from error
    for position, shift in enumerate(shifts, start=1):
        whole = (shift.start, shift.end, shift.number, shift.lo, shift.hi)
        possible = (
            type(shift.object_name) is str
            and all(type(value) is int for value in whole)
            and (shift.start, shift.end) in spans
            and 1 <= shift.number <= MAX_TARGET_COUNT
            and 1 <= shift.lo < shift.hi <= MAX_TARGET_COUNT
            and type(shift.offset) in (int, float)
            and abs(shift.offset) <= MAX_TARGET_COUNT
        )
        if not possible:
            raise RecipeError(
                f"the recipe's number_shifts cannot be used: number {position} is not possible for its prompt"
            )
        spans.discard((shift.start, shift.end))
    return shifts


def number_offset_from(texts: Sequence[str]) -> NumberOffset | None:
    """Read number offsets: one number for every class ("2.5"), or NAME=X for each; None where there is no text.

    Raises:
        ValueError: another form, or a class that is given twice.
    """
    parts = [part for text in texts for part in text.split(",")]
    offsets: dict[str, float] = {}
    for part in parts:
        name, equals, number = part.rpartition("=")
        try:
            offset = float(number)
        except ValueError:
            offset = math.nan
        if not math.isfinite(offset) or bool(equals) != bool(name.strip()) or (not equals and len(parts) > 1):
            raise ValueError(f"cannot read the number offset {part!r}; write one number, such as 2.5, or NAME=X")
        if not equals:
            return offset
        if name in offsets:
            raise ValueError(f"{name!r} is given twice in the number offsets; give each object class one")
        offsets[name] = offset
    return offsets or None


def _by_target(targets: Sequence[Target], number_offset: NumberOffset) -> dict[Target, float]:
    by_name: Mapping[str, float]
    if isinstance(number_offset, Mapping):
        by_name = {singular(name): offset for name, offset in number_offset.items()}
    else:
        by_name = dict.fromkeys((target.object_name for target in targets), number_offset)
    for name, offset in by_name.items():
        if name not in {target.object_name for target in targets}:
            known = ", ".join(target.object_name for target in targets)
            raise ValueError(f"the number offset names {name!r}, the prompt's objects are {known}")
        if isinstance(offset, bool) or not isinstance(offset, int | float) or not math.isfinite(offset):
            raise ValueError(f"a number offset must be a finite number, in objects, got {offset!r}")
    return {target: float(by_name.get(target.object_name, 0.0)) for target in targets}
