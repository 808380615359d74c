"""The models of a demo, each loaded once, shared by all visitors and touched by one thread alone."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import countgen
from countgen.prompts import Target

Item = TypeVar("Item")


class _End:
    """What `next` gives for a job that has ended."""


_END = _End()


class ModelCache:
    """Loads a backbone when it is first asked for, and keeps it.

    Which names are allowed is checked before, by `Limits.check_backbone`. Gradio hands every step of a job to another
    of its forty threads; libraries below torch keep buffers for each thread, and memory would grow with all of them.

    Args:
        loaded: models that are there already, by backbone.
        critics, judge, trust_checkpoint: of all other models, as `countgen.load` takes them; by default the
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
        """The models of a backbone; call it from a job that `alone` runs."""
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

    def alone(self, job: Generator[Item, None, None]) -> Iterator[Item]:
        """The items of a job, each computed by the one thread that touches models; closes the job at the end."""
        try:
            while not isinstance(item := self._worker.submit(next, job, _END).result(), _End):
                yield item
        finally:
            self._worker.submit(job.close).result()
            self._worker.submit(give_memory_back).result()

    def object_names(self, backbone: str) -> tuple[str, ...] | None:
        """What the first critic knows, None while nothing is loaded or for an open vocabulary; never waits."""
        models = self._loaded.get(backbone)
        return models.critics[0].object_names if models else None

    def check(self, backbone: str, targets: tuple[Target, ...]) -> None:
        """Refuse what the detectors of a loaded backbone cannot count; never waits.

        Raises:
            ValueError: an object that one of them does not know, or more than it returns.
        """
        if backbone in self._loaded:
            self._loaded[backbone].check(targets)

    def warm_up(self, backbone: str) -> None:
        """Load a backbone in the background and draw one picture, so that the first visitor does not wait."""

        def draw_once() -> None:
            models = self.get(backbone)
            names = models.critics[0].object_names
            countgen.generate("one " + (names[0] if names else "apple"), models, method="plain")

        # A failure goes to the server's log: nobody else waits for this result.
        self._worker.submit(draw_once).add_done_callback(lambda drawn: drawn.result())


def give_memory_back() -> None:
    """Hand what Python and torch have freed back to the system, which glibc does not do with pieces between others."""
    gc.collect()
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
