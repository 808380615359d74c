"""The models of a demo: each is loaded once, shared by all visitors, and used by one thread only."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import countgen
from app.demo.limits import RefusedError
from countgen.prompts import Target
from countgen.prompts.plurals import plural

Item = TypeVar("Item")

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
    """

    def __init__(
        self,
        loaded: Mapping[str, countgen.Models] | None = None,
        *,
        critics: tuple[str, ...] | None = None,
        judge: str | None = None,
        trust_checkpoint: bool = False,
    ) -> None:
        self._loaded = dict(loaded or {})
        self._critics, self._judge, self._trust_checkpoint = critics, judge, trust_checkpoint
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="models")

    def get(self, backbone: str) -> countgen.Models:
        """Return the models of a backbone; only jobs of `run_in_worker` may call this."""
        if backbone not in self._loaded:
            self._loaded[backbone] = countgen.load(
                backbone, critics=self._critics, judge=self._judge, trust_checkpoint=self._trust_checkpoint
            )
        return self._loaded[backbone]

    def load(self, backbone: str) -> None:
        """Load a backbone now.

        Raises:
            ValueError, OSError: as `countgen.load`.
        """
        self._worker.submit(self.get, backbone).result()

    def run_in_worker(self, job: Generator[Item, None, None]) -> Iterator[Item]:
        """Yield the items of a job, each computed in the worker thread; close the job at the end."""
        try:
            while not isinstance(item := self._worker.submit(next, job, _END).result(), _End):
                yield item
        finally:
            self._worker.submit(job.close).result()
            self._worker.submit(release_memory).result()

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
        for critic in (*models.critics, models.judge):
            for target in targets if critic.object_names is not None else ():
                try:
                    critic.column(target.object_name)
                except ValueError as error:
                    raise RefusedError(_known_classes(target.object_name, critic.object_names or ())) from error
        models.check(targets)

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
