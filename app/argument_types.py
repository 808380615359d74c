"""What the command's arguments may be; argparse shows the messages."""

from __future__ import annotations

import argparse
import math
import re
import secrets
from collections.abc import Callable

MAX_SEEDS = 10_000
"""Most seeds of one command."""
MAX_SEED = 2**32 - 1
MAX_SIDE = 4096
"""Largest side of an image in pixels, as `countgen.images.MAX_PIXELS` reads it back."""

MAX_STEPS = 1000
"""Most sampler steps, as `countgen.recipe` reads them back."""

MAX_NUMBER = 1_000_000
"""Largest number of anything that is counted."""


def add_trust_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the option of every command that loads the detectors which the user names."""
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="let code in the .pt files of --critic and --judge run, with your rights (they are read as data)",
    )


def seeds_in(text: str) -> list[int]:
    """Seeds from "7" or "0-3", both ends included; a random one for "-1".

    Raises:
        argparse.ArgumentTypeError: another form, a seed that is too high, a range that runs backwards, or one of
            more than 10 000.
    """
    if text == "-1":
        return [secrets.randbelow(MAX_SEED - MAX_SEEDS)]  # --images counts up from it
    match = re.fullmatch(r"([0-9]{1,40})(?:-([0-9]{1,40}))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is no seed; write 7, 0-3 for several, from 0 to {MAX_SEED}, or -1 for a random one"
        )
    first, last = int(match[1]), int(match[2] or match[1])
    if max(first, last) > MAX_SEED:
        raise argparse.ArgumentTypeError(f"a seed must be from 0 to {MAX_SEED}, got {text}")
    if not first <= last < first + MAX_SEEDS:
        raise argparse.ArgumentTypeError(f"{text!r} must run upwards and hold at most {MAX_SEEDS} seeds")
    return list(range(first, last + 1))


def one_seed(text: str) -> int:
    """A seed that every generator takes."""
    return _whole(text, 0, MAX_SEED)


def positive(text: str) -> int:
    """A whole number above 0."""
    return _whole(text, 1, MAX_NUMBER)


def sampler_steps(text: str) -> int:
    """Read a number of sampler steps, at most as many as a recipe may hold."""
    return _whole(text, 1, MAX_STEPS)


def not_negative(text: str) -> int:
    """A whole number, 0 or above."""
    return _whole(text, 0, MAX_NUMBER)


def _whole(text: str, least: int, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,40}", text) or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{shown(text)} is no whole number from {least} to {most}")
    return int(text)


def shown(text: str) -> str:
    """What was given, quoted; its beginning where it is long."""
    return repr(text if len(text) <= 60 else text[:59] + "…")


def seconds(text: str) -> float:
    """A finite number of seconds above 0."""
    return _number(text, "number of seconds above 0", lambda value: value > 0)


def rate(text: str) -> float:
    """A finite number above 0."""
    return _number(text, "number above 0", lambda value: value > 0)


def weight(text: str) -> float:
    """A finite number, 0 or above."""
    return _number(text, "number of 0 or above", lambda value: value >= 0)


def _number(text: str, what: str, allowed: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and allowed(value)):
        raise argparse.ArgumentTypeError(f"{shown(text)} is no {what}")
    return value


def size(text: str) -> tuple[int, int]:
    """Width and height in pixels from "512" or "768x512"."""
    match = re.fullmatch(r"([0-9]{1,40})(?:x([0-9]{1,40}))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is no size in pixels; write 512, or 768x512 for width and height"
        )
    width, height = int(match[1]), int(match[2] or match[1])
    if not 1 <= min(width, height) <= max(width, height) <= MAX_SIDE:
        raise argparse.ArgumentTypeError(f"an image is from 1 to {MAX_SIDE} pixels wide and high, got {text}")
    return width, height


def grey_levels(text: str) -> int:
    """A difference between two 8-bit pixels, 0 to 255."""
    if not re.fullmatch(r"[0-9]{1,3}", text) or int(text) > 255:
        raise argparse.ArgumentTypeError(f"{shown(text)} is no difference from 0 to 255")
    return int(text)


def names(text: str) -> list[str]:
    """Names with commas between them, at least one."""
    found = [name for part in text.split(",") if (name := part.strip())]
    if not found:
        raise argparse.ArgumentTypeError(f"{shown(text)} holds no name; write apple,dog")
    return found


def count_range(text: str) -> tuple[int, int]:
    """The smallest and the largest count from "3-12" or "7"."""
    match = re.fullmatch(r"([0-9]{1,3})(?:-([0-9]{1,3}))?", text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last:
        raise argparse.ArgumentTypeError(f"{shown(text)} is no range of counts from 1 up; write 3-12")
    return first, last
