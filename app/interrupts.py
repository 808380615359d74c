"""Ctrl-C that waits for a picture to be finished."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Held:
    """Whether Ctrl-C was pressed meanwhile."""

    asked: bool = False


@contextmanager
def held_interrupts() -> Iterator[Held]:
    """Let a short piece of work end before Ctrl-C takes effect; the second Ctrl-C does not wait."""
    held = Held()
    if threading.current_thread() is not threading.main_thread():  # only the main thread is ever interrupted
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
