"""What Ctrl-C does: it ends a run, whose best candidate is kept, and waits while an image is written."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from countgen import Run


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


def run_to_end(run: Run, options: argparse.Namespace, label: str) -> bool:
    """Iterate over a run, with its progress unless `options` silence it; return whether the user interrupted it."""
    steps = iter(run) if options.quiet or options.json else run.with_progress(label)
    try:
        for number, _ in enumerate(steps, start=1):
            if number == options.max_steps:
                break
    except KeyboardInterrupt:
        return True
    return False
