"""Limits on what a visitor of the demo may ask for; the page and the API apply the same checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from countgen import plugins
from countgen.errors import CountGenError
from countgen.methods.settings import Settings, describe, with_text
from countgen.prompts import MAX_PROMPT_LENGTH

UNTIL = ("critic", "judge")
SURE = {"quick": 0.9, "sure": 0.98, "very sure": 0.995}
"""What a visitor may ask of the probability of a right count."""


class LimitError(CountGenError, ValueError):
    """A request beyond the demo's limits; the message says what is accepted."""


class BusyError(LimitError):
    """A full queue."""


@dataclass(frozen=True)
class Limits:
    """The limits of a demo.

    Attributes:
        backbones, methods, detectors, seconds, images: what a visitor may choose, the last two per image and per job.
        max_prompt_length: number of characters, of the negative prompt as well.
        max_count, max_objects: objects of one class, and classes that are counted in one image.
        max_batch, max_setting: number of images that are evaluated at once; value of any other setting of a method.
        max_image_pixels, max_call_bytes: of an image to count in, and of an image that a program sends.
        max_token_bytes, max_tokens: of an uploaded token file, and number of those of all visitors together.
        max_images: number of images kept for one visitor; as with tokens, the oldest are dropped first.
        max_jobs, max_jobs_of_client: number of jobs that wait or run, of all visitors and of one address.
    """

    backbones: tuple[str, ...] = ("miniature", "miniature-pixart")
    methods: tuple[str, ...] = ("auto", "edit", "search", "noise", "lmn", "plain", *plugins.names("methods"))
    detectors: tuple[str, ...] = ("nanodet", "miniature-fcos", "miniature-yolo", *plugins.names("critics"))
    seconds: tuple[int, ...] = (2, 5, 10, 20)
    images: tuple[int, ...] = (1, 2, 3, 4)
    max_prompt_length: int = MAX_PROMPT_LENGTH
    max_count: int = 50
    max_objects: int = 8
    max_inference_steps: int = 8
    max_guidance: float = 30
    max_batch: int = 16
    max_setting: int = 1000
    max_image_pixels: int = 50_000_000
    max_call_bytes: int = 2**20
    max_token_bytes: int = 2**20
    max_tokens: int = 16
    max_images: int = 12
    max_jobs: int = 20
    max_jobs_of_client: int = 10

    def check_prompt(self, prompt: object) -> str:
        """Return a prompt that is not empty and not too long."""
        if not isinstance(prompt, str) or not prompt.strip():
            raise LimitError("Write a prompt, for example: seven apples.")
        if len(prompt) > self.max_prompt_length:
            raise LimitError(f"The prompt has {len(prompt)} characters; at most {self.max_prompt_length} are accepted.")
        return prompt

    def check_count(self, count: object) -> int:
        """Return a number of objects."""
        return int(number(count, 1, self.max_count, "The count", whole=True))

    def check_inference_steps(self, steps: object) -> int | None:
        """Return a number of sampler steps; None, also for 0 and no text, is the model's own."""
        what = "The number of sampler steps"
        return None if steps in (None, "", 0) else int(number(steps, 1, self.max_inference_steps, what, whole=True))

    def check_guidance(self, scale: object) -> float | None:
        """Return a guidance scale; None, also for no text, is the model's own."""
        return None if scale in (None, "") else number(scale, 0, self.max_guidance, "The guidance scale")

    def check_end(self, seconds: object, until: object) -> tuple[int, str]:
        """Return a time limit and who must agree before a run ends."""
        return int(choice(seconds, self.seconds, "time limit")), str(choice(until, UNTIL, "end of a run"))

    def check_settings(self, settings: Settings, text: object) -> Settings:
        """Return settings with the values of a text, if none would occupy the machine for everybody else."""
        if not isinstance(text, str) or len(text) > 4 * self.max_prompt_length:
            raise LimitError("Write the settings of the method as NAME=VALUE, separated by commas.")
        settings = with_text(settings, [part for part in text.split(",") if part.strip()])
        for setting in describe(settings):
            most = self.max_batch if setting.name.rpartition(".")[2] == "batch_size" else self.max_setting
            if not isinstance(setting.default, str) and setting.default > most:
                raise LimitError(f"{setting.name} is at most {most} here, got {setting.default}.")
        return settings

    def check_object_names(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the names of objects to count, without duplicates."""
        if not 1 <= len(set(names)) <= self.max_objects or not all(0 < len(name) <= 40 for name in names):
            raise LimitError(f"Name 1 to {self.max_objects} objects to count, for example: person, bus.")
        return tuple(dict.fromkeys(names))


def choice(value: object, accepted: Sequence[int | str], what: str) -> int | str:
    """Return one of the accepted values; a whole number may come as 7 or 7.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    for known in accepted:
        if type(value) is type(known) and value == known:
            return known
    raise LimitError(f"Unknown {what}; choose one of {', '.join(map(str, accepted))}.")


def number(value: object, low: float, high: float, what: str, *, whole: bool = False) -> float:
    """Return a number within bounds that came as a number or as its text."""
    try:
        result = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if not low <= result <= high or (whole and not result.is_integer()):
        raise LimitError(f"{what} must be a {'whole ' * whole}number from {low:g} to {high:.10g}.")
    return result
