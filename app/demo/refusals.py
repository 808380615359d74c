"""Show errors of the checks as messages on the page, without a traceback or a path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from countgen.app.demo.html import sentence
from countgen.errors import CountGenError


@contextmanager
def errors_shown() -> Iterator[None]:
    """Turn errors about bad input into messages on the page.

    Wrap only the checks of the input: later errors are faults of the program and belong in the server's log.

    Raises:
        gr.Error: for each `CountGenError` or ValueError.
    """
    try:
        yield
    except (CountGenError, ValueError) as error:
        # Gradio renders messages as HTML.
        raise gr.Error(sentence(error), print_exception=False) from None


def event_field(event: gr.EventData, name: str) -> Any:
    """Return a field that the page sent with an event; None if an API client left it out."""
    try:
        return getattr(event, name)
    except (AttributeError, TypeError):
        return None
