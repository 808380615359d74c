"""Soak test of the demo's API: `python -m app.demo.soak --jobs 300`. Prints memory and times of many jobs and uploads.

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
from dataclasses import replace
from pathlib import Path

from app.argument_types import positive

PROMPTS = ("one cat", "three apples", "two balls and one dog", "five cookies")
LONG = "a photo of fifteen strawberries"
JOBS_PER_SESSION = 20
"""Number of jobs of one session; then the next session is opened."""

UPLOADS_PER_SESSION = 5
"""Number of uploads of one session."""

WARM_UP = 20
"""Number of jobs or uploads before memory is first measured; they fill caches that do not grow further."""

MOST_GROWTH = 0.05
MOST_SECONDS = 2.0


def resident_mib() -> float:
    """Return the resident memory of this process, which serves the page and generates the images."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def upload_tokens(url: str, number: int) -> tuple[float, float]:
    """Upload files of the maximum size, alternating a valid token with random bytes, in ever new sessions.

    Returns:
        Resident MiB after the first `WARM_UP` uploads, and after `number` more.
    """
    import httpx
    import torch

    import countgen
    from countgen.tokens.file import MAX_FILE_BYTES, MAX_VECTORS, encoded

    width = (MAX_FILE_BYTES - 4096) // MAX_VECTORS // 4
    token = replace(countgen.find_token("count-5", "miniature"), vectors={"clip_l": torch.ones(MAX_VECTORS, width)})
    files = [base64.b64encode(data).decode() for data in (encoded(token), random.Random(0).randbytes(MAX_FILE_BYTES))]
    settled = resident_mib()
    for k in range(WARM_UP + number):
        if k == WARM_UP:
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
    return settled, resident_mib()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m app.demo.soak", description=__doc__)
    parser.add_argument("--jobs", type=positive, default=300)
    parser.add_argument(
        "--cancels", type=positive, default=5, help="number of long jobs that are cancelled (%(default)s)"
    )
    parser.add_argument(
        "--uploads", type=positive, default=500, help="number of token files that are uploaded (%(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.jobs <= WARM_UP:
        parser.error(f"--jobs must be above {WARM_UP}, after which memory is measured; got {options.jobs}")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # Gradio's client would send usage statistics
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("app.demo").setLevel(logging.ERROR)  # every second upload is refused and logged

    from app.demo.page import build, launch

    started = time.perf_counter()
    from gradio_client import Client  # type: ignore[import-untyped, unused-ignore]

    import countgen
    from app.demo.limits import Limits
    from app.demo.model_cache import ModelCache

    model_cache = ModelCache({"miniature": countgen.load("miniature")})
    page = build(Limits(), model_cache=model_cache)
    url = launch(page, quiet=True)
    print(f"loaded and served after {time.perf_counter() - started:.1f} s")

    settled, previews, durations = resident_mib(), [], []
    client = Client(url, verbose=False)
    for number in range(options.jobs):
        if number == WARM_UP:
            settled = resident_mib()
        if number and number % max(1, options.jobs // 6) == 0:
            print(f"after {number} jobs {resident_mib():.0f} MiB", flush=True)
        if number % JOBS_PER_SESSION == JOBS_PER_SESSION - 1:
            client.close()
            client = Client(url, verbose=False)
        begun = time.perf_counter()
        job = client.submit(
            *(PROMPTS[number % len(PROMPTS)], "miniature", "auto", "none", number, 5, "critic", 1, *[""] * 4, "none"),
            api_name="/generate_view",
        )
        views: list[str] = []
        for view, _ in job:
            if "<img" in view and not any("<img" in earlier for earlier in views):
                previews.append(time.perf_counter() - begun)
            views.append(view)
        durations.append(time.perf_counter() - begun)
        if not views or "verdict" not in views[-1]:
            raise RuntimeError(f"job {number} ended without a result")
    ended = resident_mib()
    print(
        f"{options.jobs} jobs, {-(-options.jobs // JOBS_PER_SESSION)} sessions: memory {settled:.0f} MiB after "
        f"{WARM_UP} jobs, {ended:.0f} MiB after all, {100 * (ended / settled - 1):+.1f} %"
    )
    print(
        f"time to the first preview: median {statistics.median(previews):.2f} s, slowest {max(previews):.2f} s; "
        f"to the result: median {statistics.median(durations):.2f} s"
    )

    before, after = upload_tokens(url, options.uploads)
    print(
        f"{options.uploads} token uploads, {-(-options.uploads // UPLOADS_PER_SESSION)} sessions: memory "
        f"{before:.0f} MiB after the first {WARM_UP}, {after:.0f} MiB after all, {100 * (after / before - 1):+.1f} %",
        flush=True,
    )

    freed = []
    for _ in range(options.cancels):
        leaving = Client(url, verbose=False)
        job = leaving.submit(LONG, seed=0, seconds=20, api_name="/generate")
        next(iter(job))  # it is running
        begun = time.perf_counter()
        job.cancel()
        for _ in client.submit("one cat", method="plain", seed=0, api_name="/generate"):
            freed.append(time.perf_counter() - begun)
            break
        leaving.close()
    print(
        f"time until the worker serves the next session after a cancel: median {statistics.median(freed):.2f} s, "
        f"slowest {max(freed):.2f} s of {len(freed)}"
    )
    client.close()
    page.close(verbose=False)
    grew = max(ended / settled, after / before) > 1 + MOST_GROWTH
    return int(grew or max(freed) > MOST_SECONDS)


if __name__ == "__main__":
    raise SystemExit(main())
