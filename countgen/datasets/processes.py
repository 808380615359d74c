"""Where attempts are made: in this process, or in several that load the models themselves."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from functools import lru_cache
from typing import Any

from countgen.datasets.plan import Plan
from countgen.datasets.sampler import Loader, Sampler

Work = Callable[..., Any]


class Here(Executor):
    """An executor that works in this process when something is submitted."""

    def submit(self, work: Work, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = Future[Any]()
        future.set_result(work(*args, **kwargs))
        return future


def executor(plan: Plan, load: Loader, workers: int) -> tuple[Executor, Callable[[str], Work]]:
    """Return an executor, and a function from the name of a method of `Sampler` to what it can be given."""
    if workers == 1:
        sampler = Sampler(plan, load())
        return Here(), lambda name: getattr(sampler, name)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(plan, load))
    return pool, lambda name: _METHODS[name]


_given: tuple[Plan, Loader]


def _begin(plan: Plan, load: Loader) -> None:
    """Prepare a process: it leaves interruptions to its parent, and ends with it, however that ends."""
    global _given
    _given = plan, load
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


@lru_cache
def _sampler() -> Sampler:
    """Load the models with the first work, whose errors reach the parent, as those of an initializer would not."""
    plan, load = _given
    return Sampler(plan, load())


def _identity() -> Any:
    return _sampler().identity()


def _attempt(*args: Any) -> Any:
    return _sampler().attempt(*args)


_METHODS: dict[str, Work] = {"identity": _identity, "attempt": _attempt}
