"""One demo server for all tests of this folder."""

import gc
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from gradio_client import Client
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, expect

import countgen
from countgen.app.demo.limits import Limits
from countgen.app.demo.model_cache import ModelCache
from countgen.app.demo.page import build, launch
from countgen.benchmarks.evaluation.records import RECORDS, SETTINGS, Record, to_line

# A long timeout, for machines with other load.
expect.set_options(timeout=60_000)

LIMITS = replace(Limits(), max_waiting=3, seconds=(2, 5, 20), learning_seconds=(2, 20))


def record(number: int, method: str, found: int) -> Record:
    """Return a finished record of one image with `number` balls, of which the judge counts `found`."""
    key = f"{method}-{number}"
    return Record(
        key=key,
        suite="test",
        level="easy" if number <= 5 else "medium",
        prompt=f"a photo of {number} balls",
        wanted={"ball": number},
        seed=number,
        backbone="miniature",
        method=method,
        critics=("miniature-yolo",),
        judges=("miniature-fcos",),
        status="done",
        error=None,
        critic_counts=(number,),
        judge_counts={"miniature-fcos": (found,)},
        confidence={"miniature-fcos": 0.9},
        boxes={"miniature-fcos": ()},
        confirmed=True,
        trace=((4, 0.3, found == number),),
        evaluations=4,
        seconds=0.3,
        peak_bytes=None,
        image=f"images/{key}.png",
        before=None,
    )


def write_run(folder: Path) -> Path:
    """Write the run folder of an evaluation with two methods on six prompts."""
    (folder / "images").mkdir(parents=True)
    (folder / SETTINGS).write_text("{}")
    records = [
        record(n, method, n if method == "auto" or n < 4 else n - 2)
        for n in range(1, 7)
        for method in ("plain", "auto")
    ]
    for one in records:
        image = Image.new("RGB", (128, 128), "white")
        for k in range(one.judge_counts["miniature-fcos"][0]):
            ImageDraw.Draw(image).ellipse(
                (8 + 40 * (k % 3), 8 + 40 * (k // 3), 36 + 40 * (k % 3), 36 + 40 * (k // 3)), "red"
            )
        image.save(folder / str(one.image))
    (folder / RECORDS).write_bytes(b"".join(map(to_line, records)))
    return folder


@pytest.fixture(scope="session")
def runs() -> Iterator[Path]:
    """Create a root with one run to show and two to label, and a secret run beside the root.

    In the system's temporary folder, from which Gradio serves more than from others.
    """
    with tempfile.TemporaryDirectory() as outside:
        root = Path(outside) / "runs"
        write_run(root / "first")
        write_run(root / "to-label")
        write_run(root / "to-audit")  # the newest, which the page opens
        write_run(Path(outside) / "secret")
        yield root


@contextmanager
def served(models: countgen.Models, runs: Path | None = None, auth: tuple[str, str] | None = None) -> Iterator[str]:
    """Serve a demo and yield its URL; objects that Gradio leaves open are collected here, not during another test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        page = build(LIMITS, runs, ModelCache({"miniature": models}))
        url = launch(page, auth=auth, quiet=True).rstrip("/")
    yield url
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        page.close(verbose=False)
        gc.collect()


@pytest.fixture(scope="session")
def demo(models: countgen.Models, runs: Path) -> Iterator[str]:
    """Serve one demo for all tests."""
    with served(models, runs) as url:
        yield url


@pytest.fixture(scope="session")
def client(demo: str) -> Iterator[Client]:
    """Connect an API client to the demo."""
    client = Client(demo, verbose=False)
    yield client
    client.close()


@pytest.fixture
def api(client: Client) -> Client:
    """Return the client with a new session; a new client would take a second to close."""
    client.reset_session()
    return client


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder for screenshots: COUNTGEN_SCREENSHOTS, which gets one of every page, or a temporary one."""
    given = os.environ.get("COUNTGEN_SCREENSHOTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def open_page(demo: str, chromium: Browser, screenshots: Path, request: pytest.FixtureRequest) -> Iterator["Opener"]:
    """Open the demo in new browser contexts; afterwards only expected refusals may have been reported as errors."""
    opener = Opener(demo, chromium)
    yield opener
    if "COUNTGEN_SCREENSHOTS" in os.environ:
        for number, page in enumerate(opener.pages):
            page.screenshot(path=screenshots / f"{request.node.name}-{number}.png", full_page=True)
    for context in opener.contexts:
        context.close()
    assert not opener.errors
    assert opener.refused == opener.refusals


def _ours(error: Error) -> bool:
    """Return whether an error came from the demo's own script; Gradio's scripts raise some errors of their own."""
    frames = [line for line in (error.stack or "").splitlines() if line.strip().startswith("at ")]
    return not frames or "/assets/" not in frames[0] or "eval" in frames[0]


class Opener:
    """Open pages, and record the errors that they report.

    Attributes:
        refusals: number of requests that a full queue is expected to refuse; the browser reports each.
    """

    def __init__(self, url: str, browser: Browser) -> None:
        self.url, self.browser = url, browser
        self.contexts: list[BrowserContext] = []
        self.pages: list[Page] = []
        self.errors: list[str] = []
        self.refused = self.refusals = 0

    def __call__(self, viewport: dict[str, int] | None = None) -> Page:
        context = self.browser.new_context(viewport=viewport or {"width": 1280, "height": 900})
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: self.errors.append(str(error)) if _ours(error) else None)
        page.on("console", self._record)
        page.goto(self.url)
        page.locator("#go").wait_for()
        self.contexts.append(context)
        self.pages.append(page)
        return page

    def _record(self, message: ConsoleMessage) -> None:
        if message.type != "error":
            return
        if "status of 429" in message.text:
            self.refused += 1
        else:
            self.errors.append(message.text)
