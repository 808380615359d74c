"""The models of a demo: each is loaded once, shared by all visitors, and used by one thread only."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import statistics
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import countgen
from countgen.app.demo.limits import RefusedError
from countgen.app.demo.session import Session
from countgen.backbones.cuda_graphs import CUDAGraphs
from countgen.critics import Critic
from countgen.detector_choice import AUTO
from countgen.editing import targets_of
from countgen.models import load_critic
from countgen.number_slider import NumberShift, find_calibration
from countgen.number_slider.shifts import offset_shifts, stored_shifts
from countgen.prompts import Target
from countgen.prompts.plurals import plural

Item = TypeVar("Item")

RECENT_JOBS = 10
"""Number of jobs whose durations tell how long the next ones will take."""

MAX_NAMES_LISTED = 30
"""Object classes that a message lists; COCO has 80, other vocabularies thousands."""


class _End:
    """The type of the value that `next` returns for a job that has ended."""


_END = _End()


class ModelCache:
    """Load a backbone on first use, and keep it.

    `Limits.check_backbone` checks beforehand which names are allowed. All models run in one worker thread: Gradio
    would run every step of a job in another of its forty threads, and libraries below torch keep buffers per thread.

    Args:
        loaded: models that are loaded already, by backbone.
        critics, judge, trust_checkpoint: for all other models, as `countgen.load` takes them; by default the
            backbone's own detectors.
        options: further arguments of `countgen.load` for all other models, such as `loras` and `dtype`.
    """

    def __init__(
        self,
        loaded: Mapping[str, countgen.Models] | None = None,
        *,
        critics: tuple[str, ...] | None = None,
        judge: str | None = None,
        trust_checkpoint: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._loaded = dict(loaded or {})
        self._options = dict(options or {})
        self._detectors: dict[str, Critic] = {}
        self._critics, self._judge, self._trust_checkpoint = critics, judge, trust_checkpoint
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="models")
        self._durations: deque[float] = deque(maxlen=RECENT_JOBS)
        self._began: float | None = None

    def get(self, backbone: str) -> countgen.Models:
        """Return the models of a backbone; only what runs in the worker may call this."""
        if backbone not in self._loaded:
            self._loaded[backbone] = countgen.load(
                backbone,
                critics=self._critics,
                judge=self._judge or AUTO,
                trust_checkpoint=self._trust_checkpoint,
                **self._options,
            )
            # What a model and its libraries consist of never becomes garbage: `release_memory` need not look at it.
            gc.collect()
            gc.freeze()
        return self._loaded[backbone]

    def sampled(
        self, backbone: str, num_inference_steps: int | None = None, guidance_scale: float | None = None
    ) -> countgen.Models:
        """Return the models of a backbone that samples otherwise; None for its own settings. Weights are shared.

        Only what runs in the worker may call this.
        """
        models = self.get(backbone)
        given = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
        changes: dict[str, Any] = {
            name: value
            for name, value in given.items()
            if value is not None and value != getattr(models.backbone, name)
        }
        if not changes:
            return models
        changed = models.backbone.uncached_copy()
        preset = models.backbone.preset
        if "num_inference_steps" in changes:
            changes["timesteps"] = None  # explicit timesteps are of the preset's own number of steps
        changed.preset = replace(preset, **changes)
        changed.num_inference_steps = changed.preset.num_inference_steps
        changed.guidance_scale = changed.preset.guidance_scale
        return replace(models, backbone=changed, graphs=CUDAGraphs())

    def detector(self, name: str) -> Critic:
        """Return a detector for uploaded images, loaded on first use; only what runs in the worker may call this."""
        if name not in self._detectors:
            self._detectors[name] = load_critic(name)
        return self._detectors[name]

    def offsets(self, backbone: str, target_count: int) -> tuple[float, float] | None:
        """Return the range of the number slider for a count; None for a model without calibration or not loaded."""
        models = self._loaded.get(backbone)
        calibration = find_calibration(models.backbone) if models else None
        if calibration is None:
            return None
        low, high = calibration.offset_range
        beyond = max(0, target_count - calibration.hi)
        return max(low - beyond, -float(target_count)), high - beyond

    @staticmethod
    def shifts(
        recipe: Mapping[str, Any], models: countgen.Models, object_name: str, offset: float
    ) -> tuple[NumberShift, ...]:
        """Return the shifts of an image moved along the number axis of one class, those of its recipe included.

        Raises:
            RefusedError: the image is moved along this axis already.
            ValueError: as `countgen.number_slider.shifts.offset_shifts`.
        """
        prompt, targets = str(recipe["prompt"]), targets_of(recipe)
        stored = stored_shifts(recipe.get("number_shifts", ()), prompt)
        own = [shift for shift in stored if shift.object_name == object_name]
        if own:
            raise RefusedError(
                f"The number of {plural(object_name)} was moved by {own[0].offset:+g} already when this image was "
                "generated; generate it with the prompt's own number to use the slider."
            )
        names, calibration = models.critics[0].object_names, find_calibration(models.backbone)
        return (*stored, *offset_shifts(prompt, targets, names, calibration, {object_name: offset}))

    def load(self, backbone: str) -> None:
        """Load a backbone now.

        Raises:
            ValueError, OSError: as `countgen.load`.
        """
        self._worker.submit(self.get, backbone).result()

    async def run_in_worker(self, job: Generator[Item, None, None], session: Session) -> AsyncIterator[Item]:
        """Yield the items of a visitor's job, each computed in the worker thread, which then closes the job.

        A job that is cancelled is stopped, as the visitor's Stop does it, and its last item is dropped.
        """
        with self._timed():
            try:
                while not isinstance(item := await asyncio.wrap_future(self._worker.submit(next, job, _END)), _End):
                    yield item
            except asyncio.CancelledError:
                session.stop()
                raise
            finally:
                self._worker.submit(job.close)  # not awaited: a cancel request would wait for the pass in progress

    def call_in_worker(self, function: Callable[..., Item], *arguments: Any) -> Item:
        """Return a function's value, computed in the worker thread."""
        with self._timed():
            return self._worker.submit(function, *arguments).result()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Take the time of a job for `wait`, and release its memory after it."""
        began = self._began = time.monotonic()
        try:
            yield
        finally:
            self._worker.submit(release_memory)
            self._durations.append(time.monotonic() - began)
            self._began = None

    def wait(self, jobs_waiting: int) -> tuple[int, float | None]:
        """Return how many jobs come before one that waits behind `jobs_waiting` others, and the seconds they take.

        The seconds follow from the mean duration of recent jobs; None before the first has ended.
        """
        began = self._began
        jobs = jobs_waiting + (began is not None)
        if not self._durations:
            return jobs, None
        usual = statistics.mean(self._durations)
        running = max(0.0, usual - (time.monotonic() - began)) if began is not None else 0.0
        return jobs, running + usual * jobs_waiting

    def is_loaded(self, backbone: str) -> bool:
        """Return whether a backbone is loaded; never wait."""
        return backbone in self._loaded

    def object_names(self, backbone: str) -> tuple[str, ...] | None:
        """Return the classes of the first critic, None for an open vocabulary or an unloaded model; never wait."""
        models = self._loaded.get(backbone)
        return models.critics[0].object_names if models else None

    def check(self, backbone: str, targets: tuple[Target, ...]) -> None:
        """Refuse targets that the detectors of a loaded backbone cannot count, without waiting.

        Raises:
            RefusedError: one of the detectors has no class for an object; the message lists the classes.
            ValueError: two targets are one class, or a count is more than a detector returns.
        """
        if backbone not in self._loaded:
            return
        models = self._loaded[backbone]
        for critic in (*models.critics, models.required_judge):
            for target in targets:
                self.check_known(critic, target.object_name)
        models.check(targets)

    @staticmethod
    def check_known(critic: Critic, object_name: str) -> None:
        """Refuse an object that a detector has no class for.

        Raises:
            RefusedError: the message lists the classes.
        """
        if critic.object_names is None:
            return
        try:
            critic.column(object_name)
        except ValueError as error:
            raise RefusedError(_known_classes(object_name, critic.object_names)) from error

    def warm_up(self, backbone: str) -> None:
        """Load a backbone in the background and generate one image, so that the first visitor does not wait."""

        def generate_once() -> None:
            models = self.get(backbone)
            names = models.critics[0].object_names
            countgen.generate("one " + (names[0] if names else "apple"), models, method="plain")

        # The callback writes a failure to the server's log.
        self._worker.submit(generate_once).add_done_callback(lambda generated: generated.result())


def _known_classes(object_name: str, names: tuple[str, ...]) -> str:
    more = f" and {len(names) - MAX_NAMES_LISTED} more" if len(names) > MAX_NAMES_LISTED else ""
    listed = ", ".join(names[:MAX_NAMES_LISTED])
    return f"This model cannot count {plural(object_name)}. This model can count: {listed}{more}."


def release_memory() -> None:
    """Return freed memory to the operating system; glibc keeps free blocks that lie between used ones."""
    gc.collect()
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
