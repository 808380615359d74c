"""Show on standard error what is loaded and how far a run is: on a terminal in one line, elsewhere in several."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from shutil import get_terminal_size
from typing import TypeVar

from tqdm import tqdm

from countgen.files.printable import printable
from countgen.methods.step import Step
from countgen.prompts import Target
from countgen.prompts.plurals import counted, counts_in_words

SECONDS_BETWEEN_LINES = 5.0
"""Off a terminal nothing is printed before so many seconds, and a line after as many more."""


@contextmanager
def loading(what: str, *, shown: bool) -> Iterator[None]:
    """Hide the loading bars of diffusers and transformers, and say instead what is loaded and how long it took.

    Args:
        what: name and size.
        shown: False to say nothing.
    """
    stream, begun, started = sys.stderr, threading.Event(), time.perf_counter()
    line, end = f"loading {printable(what, 200)}", "\n"

    def begin() -> None:
        begun.set()
        print(line, end=end, file=stream, flush=True)

    timer = threading.Timer(SECONDS_BETWEEN_LINES, begin)
    timer.daemon = True
    if shown and stream.isatty():
        line, end = line[: get_terminal_size().columns - len(" ... 9999.9 s") - 1], " "
        begin()
    elif shown:
        timer.start()
    try:
        with without_loading_bars():
            yield
    finally:
        timer.cancel()
        if begun.is_set():
            print(f"... {time.perf_counter() - started:.1f} s", file=stream, flush=True)


@contextmanager
def without_loading_bars() -> Iterator[None]:
    """Disable the bars of diffusers and transformers while weights are loaded; those of downloads stay."""
    import diffusers
    import transformers

    enabled = [library.utils.logging for library in (diffusers, transformers)]
    enabled = [logging for logging in enabled if logging.is_progress_bar_enabled()]
    for logging in enabled:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        for logging in enabled:
            logging.enable_progress_bar()


@contextmanager
def progress_line(
    text: str, *, shown: bool = True, every: float = SECONDS_BETWEEN_LINES
) -> Iterator[Callable[[str, float], None]]:
    """Show how far some work is: on a terminal in one line with a bar, elsewhere in a line every few seconds.

    Args:
        text: shown at the beginning.
        shown: False to show nothing.
        every: seconds between lines off a terminal.

    Yields:
        A function that shows a text, and the fraction of the work that is done.
    """
    stream = sys.stderr
    terminal, last = stream.isatty(), time.monotonic()

    def show(text: str, fraction: float) -> None:
        nonlocal last
        text, bar.n = printable(text), min(1.0, fraction)
        # What matters stands first: a narrow terminal cuts the rest, and would break a longer line.
        bar.ncols = get_terminal_size().columns - 1
        bar.set_description_str(text)
        if shown and not terminal and time.monotonic() - last >= every:
            last = time.monotonic()
            print(text, file=stream, flush=True)

    hidden = not (shown and terminal)
    with tqdm(desc=text, total=1.0, bar_format="{desc} |{bar}|", file=stream, disable=hidden, leave=False) as bar:
        yield show


Item = TypeVar("Item")


def counted_progress(
    items: Iterable[Item],
    total: int,
    *,
    done: int = 0,
    has_failed: Callable[[Item], bool] = lambda item: False,
    shown: bool = True,
    every: float = 60.0,
) -> Iterator[Item]:
    """Yield images as they are finished, and show how many are done and failed, and the estimated time left.

    Args:
        items: one for each image.
        total, done: number of images of the whole work, and of earlier starts.
        has_failed: whether an item counts as failed.
        shown, every: as of `progress_line`.
    """
    started, failures, first = 0.0, 0, done
    with progress_line(f"{done} of {total} images", shown=shown, every=every) as show:
        for item in items:
            yield item
            done, failures, now = done + 1, failures + has_failed(item), time.monotonic()
            started = started or now  # the first image waits for the models; the rate does not count it
            pace = (now - started) / (done - first - 1) if done - first > 1 else 0.0
            left = f", {duration(pace * (total - done))} left" if pace else ""
            show(f"{done} of {total} images{left}, {failures} failed", done / total)


def followed(
    steps: Iterable[Step],
    *,
    label: str,
    targets: Sequence[Target],
    limits: tuple[float | None, int | None],
    every: float = SECONDS_BETWEEN_LINES,
) -> Iterator[Step]:
    """Yield the steps of a run, and show each: the first critic's counts, the evaluations, the loss and the time.

    Args:
        steps, targets: of the run.
        label: at the beginning of each line.
        limits: seconds and evaluations, as of `Budget`.
        every: as of `progress_line`.
    """
    with progress_line(f"{label}: 0 evaluations", every=every) as show:
        for step in steps:
            show(f"{label}: {_progress_of(step, targets, limits)}", _spent(step, limits))
            yield step


def _progress_of(step: Step, targets: Sequence[Target], limits: tuple[float | None, int | None]) -> str:
    counts = counts_in_words(step.counts, {target.object_name: target.target_count for target in targets})
    most = "" if limits[1] is None else f"/{limits[1]}"
    spent = _spent(step, limits)
    longest = f" of {duration(step.seconds / spent)}" if spent > 0 else ""
    evaluations = f"{step.evaluations}{most} {counted('evaluation', limits[1] or step.evaluations)}"
    return f"{counts} (critic), {evaluations}, loss {step.loss:.2f}, {duration(step.seconds)}{longest}"


def _spent(step: Step, limits: tuple[float | None, int | None]) -> float:
    """Return the part of the budget that is spent; above 1 where the last evaluation took longer than was left."""
    spent = (step.seconds, step.evaluations)
    return max(used / limit for used, limit in zip(spent, limits, strict=True) if limit is not None)


def duration(seconds: float) -> str:
    """Return a duration in words.

    >>> duration(0.52), duration(59.6), duration(90), duration(7200)
    ('0.5 s', '60 s', '1:30 min', '2:00 h')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02} h" if minutes >= 60 else f"{minutes}:{rest:02} min"
