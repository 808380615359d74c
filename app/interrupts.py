"""Ctrl-C and SIGTERM: they end a run, whose best candidate is kept, and wait while an image is written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from countgen import Run


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does at that moment."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread has signals
        yield
        return

    def interrupt(_: int, frame: FrameType | None) -> None:
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):  # a shell's background job ignores Ctrl-C, which is not meant for it; this signal is
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    usual = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, usual)


@dataclass
class Held:
    """Whether Ctrl-C was pressed while interrupts were held."""

    asked: bool = False


@contextmanager
def held_interrupts() -> Iterator[Held]:
    """Delay the first Ctrl-C until the end of the block; a second Ctrl-C raises at once."""
    held = Held()
    if threading.current_thread() is not threading.main_thread():
        yield held
        return

    def hold(*_: Any) -> None:
        if held.asked:
            raise KeyboardInterrupt
        held.asked = True

    usual = signal.signal(signal.SIGINT, hold)
    try:
        yield held
    finally:
        signal.signal(signal.SIGINT, usual)


def run_to_end(run: Run, label: str, max_steps: int | None, *, shown: bool) -> bool:
    """Iterate over a run, with its progress if `shown`; return whether the user interrupted it."""
    steps = run.with_progress(label) if shown else iter(run)
    try:
        for number, _ in enumerate(steps, start=1):
            if number == max_steps:
                break
    except KeyboardInterrupt:
        return True
    return False
