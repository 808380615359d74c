"""Many jobs and uploads through the demo's API: `python -m app.demo.soak --jobs 300`. Prints memory and times.

Exit code 1 where either let memory grow by more than 5 %, or the worker was not free within two seconds of a cancel.
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
VISITORS = 20
"""Jobs of one visitor before the next one comes, as pages are opened and closed."""

UPLOADS_OF_ONE = 5
"""Token files of one visitor."""

SETTLED = 20
"""Jobs, or uploads, before memory is measured: the first ones fill caches that never grow again."""

MOST_GROWTH = 0.05
MOST_SECONDS = 2.0


def resident_mib() -> float:
    """Memory of this process, which serves and draws."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def upload_tokens(url: str, number: int) -> tuple[float, float]:
    """Hand in token files as large as they may be, in turn a valid one and random bytes, as ever new visitors.

    Returns:
        MiB after the first `SETTLED` of them, and after `number` more.
    """
    import httpx
    import torch

    import countgen
    from countgen.tokens.file import MAX_FILE_BYTES, MAX_VECTORS, encoded

    width = (MAX_FILE_BYTES - 4096) // MAX_VECTORS // 4
    token = replace(countgen.find_token("count-5", "miniature"), vectors={"clip_l": torch.ones(MAX_VECTORS, width)})
    files = [base64.b64encode(data).decode() for data in (encoded(token), random.Random(0).randbytes(MAX_FILE_BYTES))]
    settled = resident_mib()
    for k in range(SETTLED + number):
        if k == SETTLED:
            settled = resident_mib()
        answer = httpx.post(
            url + "gradio_api/run/hand_in_token",
            json={"data": [None], "session_hash": f"soak{k // UPLOADS_OF_ONE}", "event_data": {"data": files[k % 2]}},
            timeout=60,
        )
        if answer.status_code != (200, 422)[k % 2]:
            raise RuntimeError(f"upload {k} was answered with {answer.status_code}")
    return settled, resident_mib()


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m app.demo.soak", description=__doc__)
    parser.add_argument("--jobs", type=positive, default=300)
    parser.add_argument("--cancels", type=positive, default=5, help="long jobs that are cancelled (%(default)s)")
    parser.add_argument("--uploads", type=positive, default=500, help="token files that are handed in (%(default)s)")
    options = parser.parse_args(arguments)
    if options.jobs <= SETTLED:
        parser.error(f"--jobs must be above {SETTLED}, after which memory is measured; got {options.jobs}")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # Gradio's client, not its server, would report its use
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("app.demo").setLevel(logging.ERROR)  # every second upload is refused, in one line

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

    settled, previews, whole = resident_mib(), [], []
    client = Client(url, verbose=False)
    for number in range(options.jobs):
        if number == SETTLED:
            settled = resident_mib()
        if number and number % max(1, options.jobs // 6) == 0:
            print(f"after {number} jobs {resident_mib():.0f} MiB", flush=True)
        if number % VISITORS == VISITORS - 1:
            client.close()
            client = Client(url, verbose=False)
        begun = time.perf_counter()
        job = client.submit(
            PROMPTS[number % len(PROMPTS)], "miniature", "auto", "none", number, 5, api_name="/generate"
        )
        stages: list[str] = []
        for stage, _ in job:
            if "<img" in stage and not any("<img" in earlier for earlier in stages):
                previews.append(time.perf_counter() - begun)
            stages.append(stage)
        whole.append(time.perf_counter() - begun)
        if not stages or "verdict" not in stages[-1]:
            raise RuntimeError(f"job {number} ended without a verdict")
    ended = resident_mib()
    print(
        f"{options.jobs} jobs, {-(-options.jobs // VISITORS)} visitors: memory {settled:.0f} MiB after {SETTLED} jobs, "
        f"{ended:.0f} MiB after all, {100 * (ended / settled - 1):+.1f} %"
    )
    print(
        f"time to the first picture: median {statistics.median(previews):.2f} s, slowest {max(previews):.2f} s; "
        f"to the verdict: median {statistics.median(whole):.2f} s"
    )

    before, after = upload_tokens(url, options.uploads)
    print(
        f"{options.uploads} token uploads, {-(-options.uploads // UPLOADS_OF_ONE)} visitors: memory {before:.0f} MiB "
        f"after the first {SETTLED}, {after:.0f} MiB after all, {100 * (after / before - 1):+.1f} %",
        flush=True,
    )

    freed = []
    for _ in range(options.cancels):
        leaving = Client(url, verbose=False)
        job = leaving.submit(LONG, "miniature", "auto", "none", 0, 20, api_name="/generate")
        for stage, _ in job:
            if "<img" in stage:
                break
        begun = time.perf_counter()
        job.cancel()
        for _ in client.submit("one cat", "miniature", "plain", "none", 0, 5, api_name="/generate"):
            freed.append(time.perf_counter() - begun)
            break
        leaving.close()
    print(
        f"the worker works for the next visitor after a cancel: median {statistics.median(freed):.2f} s, "
        f"slowest {max(freed):.2f} s of {len(freed)}"
    )
    client.close()
    page.close(verbose=False)
    grew = max(ended / settled, after / before) > 1 + MOST_GROWTH
    return int(grew or max(freed) > MOST_SECONDS)


if __name__ == "__main__":
    raise SystemExit(main())
