"""Ctrl-C and SIGTERM: they end a run, whose best candidate is kept, and wait while an image is written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from countgen import Run


@contextmanager
def _handled(number: signal.Signals, handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle a signal inside the block, if this is the main thread: others receive none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, usual)


def termination_as_interrupt() -> AbstractContextManager[None]:
    """Let SIGTERM do what Ctrl-C does at that moment."""

    def interrupt(_: int, frame: FrameType | None) -> None:
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):  # a shell's background job ignores Ctrl-C, which is not meant for it; this signal is
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    return _handled(signal.SIGTERM, interrupt)


@contextmanager
def held_interrupts() -> Iterator[threading.Event]:
    """Delay the first Ctrl-C until the end of the block, and set the event; a second Ctrl-C raises at once."""
    pressed = threading.Event()

    def hold(*_: Any) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    with _handled(signal.SIGINT, hold):
        yield pressed


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
