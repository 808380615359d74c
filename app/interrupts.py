"""Delay Ctrl-C until an image is finished."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Held:
    """Whether Ctrl-C was pressed while interrupts were held."""

    asked: bool = False


@contextmanager
def held_interrupts() -> Iterator[Held]:
    """Delay the first Ctrl-C until the end of the block; a second Ctrl-C raises at once."""
    held = Held()
    if threading.current_thread() is not threading.main_thread():  # signals interrupt the main thread only
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
