"""From a refusal in Python to a message on the page, without a traceback or a path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from app.demo.html import sentence
from countgen.errors import CountGenError


@contextmanager
def told() -> Iterator[None]:
    """Show the visitor why bad input is refused.

    Wrap the checks alone: what fails later is a fault of ours, and stays in the server's log.

    Raises:
        gr.Error: for a `CountGenError` or a ValueError.
    """
    try:
        yield
    except (CountGenError, ValueError) as error:
        # Gradio reads messages as HTML.
        raise gr.Error(sentence(error), print_exception=False) from None


def sent(event: gr.EventData, name: str) -> Any:
    """What the page sent with an event; None where a program sent an event without it."""
    try:
        return getattr(event, name)
    except (AttributeError, TypeError):
        return None
