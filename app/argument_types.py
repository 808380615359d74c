"""What the command's arguments may be; argparse shows the messages."""

from __future__ import annotations

import argparse
import re

MAX_SEEDS = 10_000
MAX_SEED = 2**32 - 1


def seeds_in(text: str) -> list[int]:
    """Seeds from "7" or "0-3", both ends included.

    Raises:
        argparse.ArgumentTypeError: another form, a range that runs backwards, or one of more than 10 000.
    """
    match = re.fullmatch(r"([0-9]{1,10})(?:-([0-9]{1,10}))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no seed; write 7 or 0-3")
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last < first + MAX_SEEDS:
        raise argparse.ArgumentTypeError(f"{text!r} must run upwards and hold at most {MAX_SEEDS} seeds")
    return list(range(first, last + 1))


def positive(text: str) -> int:
    """A whole number above 0."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def seconds(text: str) -> float:
    """A finite number of seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value


def size(text: str) -> tuple[int, int]:
    """Width and height in pixels from "512" or "768x512"."""
    match = re.fullmatch(r"([0-9]{1,5})(?:x([0-9]{1,5}))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size in pixels; write 512, or 768x512 for width and height")
    return int(match[1]), int(match[2] or match[1])


def grey_levels(text: str) -> int:
    """A difference between two 8-bit pixels, 0 to 255."""
    if not re.fullmatch(r"[0-9]{1,3}", text) or int(text) > 255:
        raise argparse.ArgumentTypeError(f"{text!r} is no difference from 0 to 255")
    return int(text)
