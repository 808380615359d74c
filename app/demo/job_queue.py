"""The queue of jobs that use the models, as a waiting visitor sees it, and how the page's events run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from countgen.app.demo.model_cache import ModelCache
from countgen.app.demo.result_view import queued
from countgen.app.demo.session import Session

AT_ONCE = {"concurrency_limit": None}
"""Run at once, beside other jobs; with `queue=False` the page would not show the function's error messages."""
MODELS = {"concurrency_id": "models", "concurrency_limit": 1}
"""One job at a time uses the models."""
PRIVATE = {"show_progress": "hidden", "api_visibility": "private"}
QUIET = {**PRIVATE, "queue": False}

SECONDS_BETWEEN_LOOKS = 0.5
LOOKS_BEFORE_JOINING = 4
"""The page sends a job and the request to watch it at the same time; either may come first."""


class JobQueue:
    """Shows a visitor the place of the job that waits for the models.

    Args:
        page: whose queue it is.
        model_cache: knows how long recent jobs took.
    """

    def __init__(self, page: gr.Blocks, model_cache: ModelCache) -> None:
        self.page, self.model_cache = page, model_cache

    def place(self, session_hash: str | None) -> int | None:
        """Return the number of waiting jobs before the first one of a page; None if it has none that waits."""
        waiting = self.page._queue.event_queue_per_concurrency_id.get(MODELS["concurrency_id"])
        jobs = waiting.queue if waiting else ()
        return next((place for place, job in enumerate(jobs) if job.session_hash == session_hash), None)

    async def watch(self, session: Session, request: gr.Request) -> AsyncIterator[Any]:
        """Yield the view of the page's waiting job whenever it changes, until the job begins or leaves the queue."""
        last, looks = "", 0
        while session.busy:
            place = self.place(request.session_hash)
            if place is None and (last or looks >= LOOKS_BEFORE_JOINING):
                break
            if place is not None and (view := queued(*self.model_cache.wait(place))) != last:
                last = view
                yield view
            looks += 1
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        yield gr.skip()  # Gradio sends the last item again at the end, and the job's own view may be shown by then
