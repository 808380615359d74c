"""From a refusal in Python to a message on the page, without a traceback or a path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from app.demo.words import sentence
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
