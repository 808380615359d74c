"""What one visitor of the demo may ask for, in one place, checked behind the page and behind the API alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from countgen.errors import CountGenError
from countgen.prompts import MAX_PROMPT_LENGTH, Target


class RefusedError(CountGenError, ValueError):
    """A visitor asked for something that the demo does not do; the message says what it does."""


@dataclass(frozen=True)
class Limits:
    """The bounds of a demo.

    Attributes:
        backbones: presets a visitor may choose; the first is the default.
        methods: of `countgen.Run` that are offered.
        seconds: time limits that are offered for one picture.
        learning_seconds: time limits that are offered for learning one token.
        max_prompt_length: characters.
        max_count: objects of one kind.
        max_object_names: that one token is learned on.
        max_token_bytes: of a token file handed in.
        max_handed_bytes: of all visitors' token files together; the oldest go first.
        max_pictures: kept for one visitor; the oldest go first.
        max_tokens: likewise.
        max_waiting: jobs in the queue, of all visitors.
        max_name_length: characters of a labeller's name.
    """

    backbones: tuple[str, ...] = ("miniature", "miniature-pixart")
    methods: tuple[str, ...] = ("auto", "search", "noise", "lmn", "plain")
    seconds: tuple[int, ...] = (2, 5, 10, 20)
    learning_seconds: tuple[int, ...] = (10, 30, 60, 120)
    max_prompt_length: int = MAX_PROMPT_LENGTH
    max_count: int = 50
    max_object_names: int = 8
    max_token_bytes: int = 1024 * 1024
    max_handed_bytes: int = 16 * 1024 * 1024
    max_pictures: int = 12
    max_tokens: int = 8
    max_waiting: int = 20
    max_name_length: int = 40

    def check_prompt(self, prompt: object) -> str:
        """A text of a permitted length."""
        if not isinstance(prompt, str) or not prompt.strip():
            raise RefusedError("Write what to draw, for example: seven apples.")
        if len(prompt) > self.max_prompt_length:
            raise RefusedError(f"The prompt has {len(prompt)} characters; at most {self.max_prompt_length} are read.")
        return prompt

    def check_targets(self, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        """Counts that are drawn here."""
        for target in targets:
            self.check_count(target.target_count)
        return targets

    def check_count(self, count: object) -> int:
        """A whole number of objects."""
        number = whole(count)
        if number is None or not 1 <= number <= self.max_count:
            raise RefusedError(f"The count must be a whole number from 1 to {self.max_count}.")
        return number

    def check_seed(self, seed: object) -> int:
        """A seed that torch takes."""
        number = whole(seed)
        if number is None or not 0 <= number < 2**32:
            raise RefusedError("The seed must be a whole number from 0 to 4294967295.")
        return number

    def check_backbone(self, name: object) -> str:
        """One of the models that are offered; nothing else is ever loaded."""
        return str(self._one_of(name, self.backbones, "model"))

    def check_method(self, name: object) -> str:
        """One of the methods that are offered."""
        return str(self._one_of(name, self.methods, "method"))

    def check_seconds(self, seconds: object) -> int:
        """One of the time limits of a picture."""
        return int(self._one_of(whole(seconds), self.seconds, "time limit"))

    def check_learning_seconds(self, seconds: object) -> int:
        """One of the time limits of a token."""
        return int(self._one_of(whole(seconds), self.learning_seconds, "time limit"))

    def check_object_names(self, names: object) -> tuple[str, ...]:
        """One to a few different names."""
        if not isinstance(names, list | tuple) or not all(isinstance(n, str) and 0 < len(n) <= 40 for n in names):
            raise RefusedError("Name the objects to learn the count on.")
        if not 1 <= len(set(names)) <= self.max_object_names:
            raise RefusedError(f"Name 1 to {self.max_object_names} different objects.")
        return tuple(dict.fromkeys(names))

    def check_labeller(self, name: object) -> str:
        """A short name of one line."""
        text = name.strip() if isinstance(name, str) else ""
        if not text or not text.isprintable() or len(text) > self.max_name_length:
            raise RefusedError(f"Give a name of 1 to {self.max_name_length} characters to count under.")
        return text

    @staticmethod
    def _one_of(value: object, allowed: Sequence[int | str], what: str) -> int | str:
        for choice in allowed:
            if type(value) is type(choice) and value == choice:
                return choice
        raise RefusedError(f"No such {what} here; choose one of {', '.join(map(str, allowed))}.")


def whole(value: object) -> int | None:
    """A number as a browser sends it (7, 7.0, "7"), if it is whole."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10:
        return int(value)
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None
