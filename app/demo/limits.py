"""Limits on what a visitor of the demo may request; the page and the API apply the same checks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from countgen.errors import CountGenError
from countgen.methods.settings import Settings, describe, with_text
from countgen.prompts import MAX_PROMPT_LENGTH, Target

UNTIL = ("critic", "judge")
MAX_DEMO_GUIDANCE = 30
BATCHES = ("batch_size", "first_batch_size", "num_refined")
"""Settings of methods that are numbers of images evaluated at once."""


class RefusedError(CountGenError, ValueError):
    """A request beyond the demo's limits; the message says what is accepted."""


@dataclass(frozen=True)
class Limits:
    """The limits of a demo.

    Attributes:
        backbones: presets a visitor may choose; the first is the default.
        methods: the methods of `countgen.Run` a visitor may choose; the first is the default.
        seconds: time limits a visitor may choose for one image.
        learning_seconds: time limits a visitor may choose for learning one token.
        max_prompt_length: number of characters, of the negative prompt as well.
        images: numbers of images a visitor may choose for one job.
        max_inference_steps: number of sampler steps of one image.
        max_batch: number of images that are evaluated at once.
        max_setting: largest value of any other setting of a method.
        max_image_bytes: size of an uploaded image file.
        max_image_pixels: number of pixels of an uploaded image.
        detectors: that count objects in uploaded images; the first is the default.
        max_count: number of objects of one class.
        max_object_names: number of object classes that one token is learned on.
        max_token_bytes: size of an uploaded token file.
        max_uploaded_bytes: size of all visitors' uploaded token files together; the oldest are dropped first.
        max_images: number of images kept for one visitor; the oldest are dropped first.
        max_tokens: number of tokens kept for one visitor; the oldest are dropped first.
        max_waiting: number of jobs of all visitors in the queue.
        max_name_length: number of characters of a labeller's name.
    """

    backbones: tuple[str, ...] = ("miniature", "miniature-pixart")
    methods: tuple[str, ...] = ("auto", "edit", "search", "noise", "lmn", "plain")
    seconds: tuple[int, ...] = (2, 5, 10, 20)
    learning_seconds: tuple[int, ...] = (10, 30, 60, 120)
    max_prompt_length: int = MAX_PROMPT_LENGTH
    images: tuple[int, ...] = (1, 2, 3, 4)
    max_inference_steps: int = 8
    max_batch: int = 16
    max_setting: int = 1000
    max_image_bytes: int = 1024 * 1024
    max_image_pixels: int = 4 * 1024 * 1024
    detectors: tuple[str, ...] = ("nanodet", "miniature-fcos", "miniature-yolo")
    max_count: int = 50
    max_object_names: int = 8
    max_token_bytes: int = 1024 * 1024
    max_uploaded_bytes: int = 16 * 1024 * 1024
    max_images: int = 12
    max_tokens: int = 8
    max_waiting: int = 20
    max_name_length: int = 40

    def check_prompt(self, prompt: object) -> str:
        """Return a prompt that is not empty and not too long."""
        if not isinstance(prompt, str) or not prompt.strip():
            raise RefusedError("Write a prompt, for example: seven apples.")
        if len(prompt) > self.max_prompt_length:
            raise RefusedError(
                f"The prompt has {len(prompt)} characters; at most {self.max_prompt_length} are accepted."
            )
        return prompt

    def check_targets(self, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        """Return targets whose counts are within the limit."""
        for target in targets:
            self.check_count(target.target_count)
        return targets

    def check_count(self, count: object) -> int:
        """Return a number of objects within the limit."""
        number = whole_number(count)
        if number is None or not 1 <= number <= self.max_count:
            raise RefusedError(f"The count must be a whole number from 1 to {self.max_count}.")
        return number

    def check_seed(self, seed: object) -> int:
        """Return a seed that torch accepts, or -1, which stands for a random one."""
        number = whole_number(seed)
        if number is None or not -1 <= number < 2**32:
            raise RefusedError("The seed must be a whole number from 0 to 4294967295, or -1 for a random one.")
        return number

    def check_backbone(self, name: object) -> str:
        """Return the name of an offered model; no other model is ever loaded."""
        return str(self._one_of(name, self.backbones, "model"))

    def check_method(self, name: object) -> str:
        """Return the name of an offered method."""
        return str(self._one_of(name, self.methods, "method"))

    def check_seconds(self, seconds: object) -> int:
        """Return an offered time limit for one image."""
        return int(self._one_of(whole_number(seconds), self.seconds, "time limit"))

    def check_until(self, until: object) -> str:
        """Return who must agree before a run ends."""
        return str(self._one_of(until, UNTIL, "end of a run"))

    def check_images(self, number: object) -> int:
        """Return an offered number of images."""
        return int(self._one_of(whole_number(number), self.images, "number of images"))

    def check_detector(self, name: object) -> str:
        """Return the name of an offered detector; no other is ever loaded."""
        return str(self._one_of(name, self.detectors, "detector"))

    def check_negative_prompt(self, prompt: object) -> str:
        """Return a negative prompt that is not too long; empty for none."""
        if prompt is None or (isinstance(prompt, str) and not prompt.strip()):
            return ""
        return self.check_prompt(prompt)

    def check_inference_steps(self, steps: object) -> int | None:
        """Return a number of sampler steps within the limit; None, also for 0 and no text, is the model's own."""
        number = 0 if steps is None or steps == "" else whole_number(steps)
        if number is None or not 0 <= number <= self.max_inference_steps:
            raise RefusedError(
                f"The sampler steps must be a whole number from 1 to {self.max_inference_steps}, or empty for the "
                "model's own."
            )
        return number or None

    def check_guidance(self, scale: object) -> float | None:
        """Return a guidance scale; None, also for no text, is the model's own."""
        if scale is None or scale == "":
            return None
        try:
            number = float(scale) if isinstance(scale, int | float | str) and not isinstance(scale, bool) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if not 0 <= number <= MAX_DEMO_GUIDANCE:
            raise RefusedError(
                f"The guidance scale must be a number from 0 to {MAX_DEMO_GUIDANCE}, or empty for the model's own."
            )
        return number

    def check_settings(self, settings: Settings, text: object) -> Settings:
        """Return settings with the values of a text, "NAME=VALUE" separated by commas, within the limits.

        Raises:
            RefusedError: no text, or a value that would occupy the machine for everybody else.
            ValueError: as `countgen.methods.settings.with_text`.
        """
        if not isinstance(text, str) or len(text) > 4 * self.max_prompt_length:
            raise RefusedError("Write the settings of the method as NAME=VALUE, separated by commas.")
        settings = with_text(settings, [part for part in text.split(",") if part.strip()])
        for one in describe(settings):
            most = self.max_batch if one.name.rpartition(".")[2] in BATCHES else self.max_setting
            if not isinstance(one.default, str) and one.default > most:
                raise RefusedError(f"{one.name} is at most {most} here, got {one.default}.")
        return settings

    def check_learning_seconds(self, seconds: object) -> int:
        """Return an offered time limit for learning one token."""
        return int(self._one_of(whole_number(seconds), self.learning_seconds, "time limit"))

    def check_object_names(self, names: object) -> tuple[str, ...]:
        """Return the object names without duplicates."""
        if not isinstance(names, list | tuple) or not all(isinstance(n, str) and 0 < len(n) <= 40 for n in names):
            raise RefusedError("Name the objects to learn the token on.")
        if not 1 <= len(set(names)) <= self.max_object_names:
            raise RefusedError(f"Name 1 to {self.max_object_names} different objects.")
        return tuple(dict.fromkeys(names))

    def check_labeller(self, name: object) -> str:
        """Return a short, printable name."""
        text = name.strip() if isinstance(name, str) else ""
        if not text or not text.isprintable() or len(text) > self.max_name_length:
            raise RefusedError(f"Give a name of 1 to {self.max_name_length} characters for your labels.")
        return text

    @staticmethod
    def _one_of(value: object, allowed: Sequence[int | str], what: str) -> int | str:
        for choice in allowed:
            if type(value) is type(choice) and value == choice:
                return choice
        raise RefusedError(f"Unknown {what}; choose one of {', '.join(map(str, allowed))}.")


def whole_number(value: object) -> int | None:
    """Return a whole number that a browser sent as 7, 7.0 or "7", otherwise None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10:
        return int(value)
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None
