"""Show the progress of a run: a bar on a terminal, a line per minute elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def shown(
    items: Iterable[Item],
    total: int,
    finished: int,
    has_failed: Callable[[Item], bool],
    *,
    stream: TextIO | None = None,
    every: float = 60.0,
) -> Iterator[Item]:
    """Yield the items, and print how many are done, the rate, and the estimated time left.

    Args:
        items: one for each image, as it is finished.
        total: number of images of the whole run.
        finished: number of images of earlier starts.
        has_failed: whether an item counts as failed.
        stream: standard error by default.
        every: seconds between lines where the stream is no terminal.
    """
    stream = stream or sys.stderr
    last = time.monotonic()
    started = 0.0
    done, failures = finished, 0
    with tqdm(total=total, initial=finished, unit="image", file=stream, disable=not stream.isatty()) as bar:
        for item in items:
            yield item
            done += 1
            failures += has_failed(item)
            bar.set_postfix_str(f"{failures} failed" if failures else "", refresh=False)
            bar.update()
            now = time.monotonic()
            started = started or now  # the first image waits for the models; the rate does not count it
            if bar.disable and (now - last >= every or done == total):
                last = now
                print(_line(done, total, done - finished - 1, now - started, failures), file=stream, flush=True)


def _line(done: int, total: int, timed: int, seconds: float, failures: int) -> str:
    pace = ""
    if timed and seconds:
        rate = timed / seconds
        pace = f", {rate:.2f} a second, {timedelta(seconds=round((total - done) / rate))} left"
    return f"{done} of {total} images{pace}, {failures} failed"
