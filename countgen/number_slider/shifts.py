"""Choose the shifts of a prompt, from a number offset or from the calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress

from countgen.critics.vocabulary import singular
from countgen.errors import PromptError
from countgen.number_slider.axis import NumberShift
from countgen.number_slider.calibration import Calibration
from countgen.prompts import Prompt, Target
from countgen.prompts.number_words import number_word
from countgen.prompts.words import Span

NumberOffset = float | Mapping[str, float]
"""Objects to add to the prompt's number, for every object class or by its name; 0 for the prompt as written."""


def number_span(prompt: Prompt, target: Target) -> Span:
    """Return the characters of the one number in a prompt's text that is the count of a target.

    Raises:
        PromptError: the prompt has none or several such numbers, or other targets.
    """
    places = [place for place in prompt.places if place.object_name == target.object_name]
    if len(places) != 1 or places[0].is_article:
        count = f"{len(places)} numbers say" if len(places) > 1 else "no number says"
        raise PromptError(
            f"{count} in {prompt.given!r} how many {target.object_name!r} to generate, and the number slider moves one "
            f"number; write one for each object class, such as '{number_word(target.target_count)}', or leave the "
            "number offset out"
        )
    return places[0].number


def offset_shifts(
    prompt: Prompt, calibration: Calibration | None, number_offset: NumberOffset
) -> tuple[NumberShift, ...]:
    """Return the shifts for a number offset.

    The start is the target's own number word, and for N beyond the highest word hi of the vocabulary, hi moved by
    N - hi; the number offset is added to that.

    Raises:
        PromptError: the prompt does not have one number for each class that is moved.
        ValueError: no calibration, an unknown class, or an offset beyond the calibrated range.
    """
    shifts = []
    for target, offset in _by_target(prompt.targets, number_offset).items():
        if not offset:
            continue
        if calibration is None:
            raise ValueError(
                "the number offset needs a calibration of this model: make one with `countgen calibrate --model NAME "
                "--out FILE` and give it with calibration=, on the command line --calibration FILE"
            )
        number = min(target.target_count, calibration.hi)
        beyond = target.target_count - number
        low, high = (limit - beyond for limit in calibration.offset_range)
        low = max(low, -target.target_count)
        if not low <= offset <= high:
            raise ValueError(
                f"the number offset for {target.target_count} x {target.object_name} must be from {low:g} to {high:g}, "
                f"as {calibration.backbone} was calibrated, got {offset:g}"
            )
        shifts.append(_shift(target, number_span(prompt, target), number, float(beyond + offset), calibration))
    return tuple(shifts)


def calibrated_shifts(prompt: Prompt, calibration: Calibration) -> tuple[NumberShift, ...]:
    """Return the shifts that the calibration chooses, see `Calibration.replacement_for`.

    A class that does not have one number in the prompt gets none.
    """
    shifts = []
    for target in prompt.targets:
        with suppress(PromptError):
            if point := calibration.replacement_for(target.target_count):
                shifts.append(_shift(target, number_span(prompt, target), point.number, point.offset, calibration))
    return tuple(shifts)


def _shift(target: Target, span: Span, number: int, offset: float, calibration: Calibration) -> NumberShift:
    return NumberShift(target.object_name, *span, number, offset, lo=calibration.lo, hi=calibration.hi)


def check_spans(shifts: Sequence[NumberShift], prompt: Prompt) -> None:
    """Raise a ValueError unless each shift moves a number of the prompt, no two of them the same."""
    spans = set(prompt.numbers) if shifts else set()
    for position, shift in enumerate(shifts):
        if (shift.start, shift.end) not in spans or shift.lo >= shift.hi:
            raise ValueError(f"number_shifts[{position}] is not possible for the prompt")
        spans.remove((shift.start, shift.end))


def number_offset_from(texts: Sequence[str]) -> NumberOffset | None:
    """Read number offsets: one number for every class ("2.5"), or NAME=X for each; None without any.

    Raises:
        ValueError: another form, or a class that is given twice.
    """
    assignments = [assignment for text in texts for assignment in text.split(",")]
    offsets: dict[str, float] = {}
    for assignment in assignments:
        name, equals, number = assignment.rpartition("=")
        try:
            offset = float(number)
        except ValueError:
            offset = math.nan
        if not math.isfinite(offset) or bool(equals) != bool(name.strip()) or (not equals and len(assignments) > 1):
            raise ValueError(f"cannot read the number offset {assignment!r}; write one number, such as 2.5, or NAME=X")
        if not equals:
            return offset
        if name in offsets:
            raise ValueError(f"{name!r} is given twice in the number offsets; give each object class one")
        offsets[name] = offset
    return offsets or None


def _by_target(targets: Sequence[Target], number_offset: NumberOffset) -> dict[Target, float]:
    names = [target.object_name for target in targets]
    if isinstance(number_offset, Mapping):
        by_name = {singular(name): offset for name, offset in number_offset.items()}
    else:
        by_name = dict.fromkeys(names, number_offset)
    for name, offset in by_name.items():
        if name not in names:
            raise ValueError(f"the number offset names {name!r}, the prompt's objects are {', '.join(names)}")
        if isinstance(offset, bool) or not isinstance(offset, int | float) or not math.isfinite(offset):
            raise ValueError(f"a number offset must be a finite number, in objects, got {offset!r}")
    return {target: float(by_name.get(target.object_name, 0.0)) for target in targets}
