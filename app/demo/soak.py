"""Soak test of the demo's API: `python -m countgen.app.demo.soak --jobs 300`.

Prints memory and times of many jobs and uploads.

The exit code is 1 if memory grew by more than 5 %, or if the worker was not free within two seconds of a cancel.
"""

from __future__ import annotations

import argparse
import base64
import logging
import os
import random
import statistics
import time
import warnings
from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path

PROMPTS = ("one cat", "three apples", "two balls and one dog", "five cookies")
LONG = "a photo of fifteen strawberries"
JOBS_PER_SESSION = 20
"""Number of jobs of one session; then the next session is opened."""

UPLOADS_PER_SESSION = 5
"""Number of uploads of one session."""

VIEW = "/generate_view"
"""The function of the page's own form."""

MOST_GROWTH = 0.05
MOST_SECONDS = 2.0


def resident_mib() -> float:
    """Return the resident memory of this process, which serves the page and generates the images."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def generate_images(url: str, number: int, warm_up: int) -> tuple[float, float]:
    """Generate images as the page does, in sessions of `JOBS_PER_SESSION`, and print memory and times.

    Returns:
        Resident MiB after the first `warm_up` jobs, and after all.

    Raises:
        RuntimeError: a job ended without a result.
    """
    from gradio_client import Client  # type: ignore[import-untyped, unused-ignore]

    from countgen.app.demo.generate_form import GenerateForm

    settled, previews, durations = resident_mib(), [], []
    client = Client(url, verbose=False)
    for k in range(number):
        if k == warm_up:
            settled = resident_mib()
        if k and k % max(1, number // 6) == 0:
            print(f"after {k} jobs {resident_mib():.0f} MiB", flush=True)
        if k % JOBS_PER_SESSION == JOBS_PER_SESSION - 1:
            client.close()
            client = Client(url, verbose=False)
        begun = time.perf_counter()
        views: list[str] = []
        form = GenerateForm(PROMPTS[k % len(PROMPTS)], seed=k)
        for view, _ in client.submit(*("" if value is None else value for value in astuple(form)), api_name=VIEW):
            if "<img" in view and not any("<img" in earlier for earlier in views):
                previews.append(time.perf_counter() - begun)
            views.append(view)
        durations.append(time.perf_counter() - begun)
        if not views or "verdict" not in views[-1]:
            raise RuntimeError(f"job {k} ended without a result")
    client.close()
    ended = resident_mib()
    print(
        f"{number} jobs, {-(-number // JOBS_PER_SESSION)} sessions: memory {settled:.0f} MiB after "
        f"{warm_up} jobs, {ended:.0f} MiB after all, {100 * (ended / settled - 1):+.1f} %"
    )
    print(
        f"time to the first preview: median {statistics.median(previews):.2f} s, slowest {max(previews):.2f} s; "
        f"to the result: median {statistics.median(durations):.2f} s"
    )
    return settled, ended


def upload_tokens(url: str, number: int, warm_up: int) -> tuple[float, float]:
    """Upload files of the maximum size, alternating a valid token with random bytes, in ever new sessions.

    Returns:
        Resident MiB after the first `warm_up` uploads, and after `number` more.

    Raises:
        RuntimeError: a valid token was refused, or random bytes were not.
    """
    import httpx
    import torch

    import countgen
    from countgen.tokens.file import MAX_FILE_BYTES, MAX_VECTORS, encoded

    width = (MAX_FILE_BYTES - 4096) // MAX_VECTORS // 4
    token = replace(countgen.find_token("count-5", "miniature"), vectors={"clip_l": torch.ones(MAX_VECTORS, width)})
    files = [base64.b64encode(data).decode() for data in (encoded(token), random.Random(0).randbytes(MAX_FILE_BYTES))]
    settled = resident_mib()
    for k in range(warm_up + number):
        if k == warm_up:
            settled = resident_mib()
        response = httpx.post(
            url + "gradio_api/run/hand_in_token",
            json={
                "data": [None],
                "session_hash": f"soak{k // UPLOADS_PER_SESSION}",
                "event_data": {"data": files[k % 2]},
            },
            timeout=60,
        )
        if response.status_code != (200, 422)[k % 2]:
            raise RuntimeError(f"upload {k} returned status {response.status_code}")
    after = resident_mib()
    print(
        f"{number} token uploads, {-(-number // UPLOADS_PER_SESSION)} sessions: memory {settled:.0f} MiB after the "
        f"first {warm_up}, {after:.0f} MiB after all, {100 * (after / settled - 1):+.1f} %",
        flush=True,
    )
    return settled, after


def cancel_jobs(url: str, number: int) -> list[float]:
    """Cancel long jobs while they run.

    Returns:
        Seconds from each cancel to the first answer of the next visitor's job.
    """
    from gradio_client import Client

    freed = []
    client = Client(url, verbose=False)
    for _ in range(number):
        leaving = Client(url, verbose=False)
        job = leaving.submit(LONG, seed=0, seconds=20, api_name="/generate")
        next(iter(job))  # it is running
        begun = time.perf_counter()
        job.cancel()
        for _ in client.submit("one cat", method="plain", seed=0, api_name="/generate"):
            freed.append(time.perf_counter() - begun)
            break
        leaving.close()
    client.close()
    print(
        f"time until the worker serves the next session after a cancel: median {statistics.median(freed):.2f} s, "
        f"slowest {max(freed):.2f} s of {len(freed)}"
    )
    return freed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m countgen.app.demo.soak", description=__doc__)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--cancels", type=int, default=5, help="number of long jobs that are cancelled (%(default)s)")
    parser.add_argument(
        "--uploads", type=int, default=500, help="number of token files that are uploaded (%(default)s)"
    )
    parser.add_argument(
        "--warm-up",
        type=int,
        default=20,
        help="jobs, and uploads, before memory is first measured; they fill caches that do not grow further "
        "(%(default)s)",
    )
    options = parser.parse_args(arguments)
    if options.jobs <= options.warm_up:
        parser.error(f"--jobs must be above --warm-up {options.warm_up}, got {options.jobs}")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # Gradio's client would send usage statistics
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("countgen.app.demo").setLevel(logging.ERROR)  # every second upload is refused and logged

    from countgen.app.demo.page import build, launch

    started = time.perf_counter()
    from countgen.app.demo.limits import Limits
    from countgen.app.demo.model_cache import ModelCache

    model_cache = ModelCache()
    model_cache.load("miniature")
    page = build(Limits(), model_cache=model_cache)
    url = launch(page, quiet=True)
    print(f"loaded and served after {time.perf_counter() - started:.1f} s")

    settled, ended = generate_images(url, options.jobs, options.warm_up)
    before, after = upload_tokens(url, options.uploads, options.warm_up)
    freed = cancel_jobs(url, options.cancels)
    page.close(verbose=False)
    grew = max(ended / settled, after / before) > 1 + MOST_GROWTH
    return int(grew or max(freed) > MOST_SECONDS)


if __name__ == "__main__":
    raise SystemExit(main())
