"""The models of a demo and the thread that uses them: each is loaded once, and jobs take turns."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeVar

import countgen
from countgen.app.demo.limits import BusyError, Limits
from countgen.backbones.cuda_graphs import CUDAGraphs
from countgen.benchmarks.evaluation.peak_memory import release_memory
from countgen.models import load_critic
from countgen.prompts.plurals import counted

Item = TypeVar("Item")

SECONDS_BETWEEN_LOOKS = 0.25
_END: Any = object()
"""What `next` returns for a job that has ended."""


@dataclass(eq=False)
class Job:
    """One visitor's work for the models.

    Attributes:
        client: address of the visitor.
        seconds, images: its time limit, of all its images together, and their number.
        run: the run in progress.
        stopping, began: the visitor asked it to end, or left; when its turn came.
        turn, turn_came: its round in the queue; set once it is the first there.
    """

    client: str = ""
    seconds: float = 0.0
    images: int = 1
    run: countgen.Run | None = None
    stopping: bool = False
    began: float | None = None
    turn: int = 0
    turn_came: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self) -> None:
        """Ask the job to end; a forward or backward pass in progress is finished."""
        self.stopping = True
        if self.run is not None:
            self.run.stop()


class Worker:
    """Runs jobs one after the other, in one thread.

    Gradio would run every step of a job in another of its forty threads, and libraries below torch keep buffers per
    thread.

    Args:
        limits: of the queue.
        loaded: models that are loaded already, by backbone.
        options: arguments of `countgen.load` for all other models.

    Attributes:
        loaded: models by backbone, for requests that must not wait for one that is being loaded.
        detector: returns a detector for photographs, loaded on first use; only the thread may call it.
    """

    def __init__(self, limits: Limits, loaded: Mapping[str, countgen.Models] = {}, **options: Any) -> None:
        self.limits, self.loaded, self._options = limits, dict(loaded), options
        self.detector = cache(load_critic)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="models")
        self.jobs: list[Job] = []

    async def run(self, job: Job, steps: Generator[Item, None, None]) -> AsyncIterator[Item | str]:
        """Yield how long a job waits, then its items, each computed in the thread.

        A job whose caller leaves is stopped, and its last item is dropped.
        """
        ahead = len(self.jobs)
        if ahead >= self.limits.max_jobs:
            raise BusyError(f"{ahead} jobs are in the queue already; try again in a minute.")
        if sum(other.client == job.client for other in self.jobs) >= self.limits.max_jobs_of_client:
            raise BusyError(f"{self.limits.max_jobs_of_client} jobs of your address are in the queue already.")
        self._join(job)
        try:
            while self.jobs[0] is not job:
                yield self.waiting(job)
                with suppress(TimeoutError):
                    await asyncio.wait_for(job.turn_came.wait(), SECONDS_BETWEEN_LOOKS)
                if job.stopping:
                    return
            job.began = time.monotonic()
            while (item := await asyncio.wrap_future(self._thread.submit(next, steps, _END))) is not _END:
                yield item
        except (asyncio.CancelledError, GeneratorExit):
            job.stop()
            raise
        finally:
            self.jobs.remove(job)
            if self.jobs:
                self.jobs[0].turn_came.set()
            # Not awaited: a cancel request would wait for the pass in progress.
            self._thread.submit(steps.close)
            self._thread.submit(release_memory)

    def _join(self, job: Job) -> None:
        """Put a job into the queue so that clients take turns, however many jobs each of them has in it."""
        own = [other.turn + 1 for other in self.jobs if other.client == job.client]
        job.turn = max([other.turn for other in self.jobs[:1]] + own, default=0)
        later = (place for place, other in enumerate(self.jobs) if place and other.turn > job.turn)
        self.jobs.insert(next(later, len(self.jobs)), job)

    def waiting(self, job: Job) -> str:
        """Return what comes before a job that waits, and the time that it takes at most."""
        before = self.jobs[: self.jobs.index(job)]
        images = sum(other.images for other in before)
        spent = time.monotonic() - before[0].began if before[0].began is not None else 0.0
        seconds = max(1.0, sum(other.seconds for other in before) - spent)
        jobs = f"{len(before)} {counted('job', len(before))} with {images} {counted('image', images)}"
        return f"Waiting: {jobs} before yours, at most {seconds:.0f} s."

    def load(self, backbone: str) -> None:
        """Load a backbone now, or raise what `countgen.load` raises."""
        self._thread.submit(self.models, backbone).result()

    def warm_up(self, backbone: str) -> None:
        """Load a backbone in the background and generate one image, so that the first visitor does not wait."""

        def generate_once() -> None:
            models = self.models(backbone)
            names = models.critics[0].object_names
            countgen.generate("one " + (names[0] if names else "apple"), models, method="plain")

        # The callback writes a failure to the server's log.
        self._thread.submit(generate_once).add_done_callback(lambda generated: generated.result())

    def models(self, backbone: str, **sampling: float | None) -> countgen.Models:
        """Return the models of a backbone, loaded on first use.

        Only the thread may call this. All settings share the weights.

        Args:
            backbone: what to load.
            sampling: steps, guidance, height and width; the backbone's own where None.
        """
        if backbone not in self.loaded:
            self.loaded[backbone] = countgen.load(backbone, **self._options)
            # What a model and its libraries consist of never becomes garbage: `release_memory` need not look at it.
            gc.collect()
            gc.freeze()
        models = self.loaded[backbone]
        own = models.backbone
        changes = {name: value for name, value in sampling.items() if value not in (None, getattr(own, name))}
        return replace(models, backbone=own.changed(**changes), graphs=CUDAGraphs()) if changes else models
