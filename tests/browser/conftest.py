"""One demo server for all tests of this folder; every page that a test leaves is photographed."""

import gc
import os
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
from app.demo.limits import Limits
from app.demo.model_cache import ModelCache
from app.demo.page import build, launch
from benchmarks.evaluation.records import RECORDS, SCHEMA, SETTINGS, Record, to_line
from countgen.prompts import Target

# The patience of a wait, for machines that do other work too.
expect.set_options(timeout=60_000)

LIMITS = replace(Limits(), max_waiting=3, seconds=(2, 5, 20), learning_seconds=(2, 20))


def record(number: int, method: str, found: int) -> Record:
    """A finished record of one picture with `number` balls, of which the judge finds `found`."""
    key = f"{method}-{number}"
    return Record(
        schema=SCHEMA,
        key=key,
        suite="test",
        level="easy" if number <= 5 else "medium",
        prompt=f"a photo of {number} balls",
        targets=(Target("ball", number),),
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
    """A run of two methods on six prompts, as an evaluation leaves it."""
    (folder / "images").mkdir(parents=True)
    (folder / SETTINGS).write_text("{}")
    records = [
        record(n, method, n if method == "auto" or n < 4 else n - 2)
        for n in range(1, 7)
        for method in ("plain", "auto")
    ]
    for one in records:
        picture = Image.new("RGB", (128, 128), "white")
        for k in range(one.judge_counts["miniature-fcos"][0]):
            ImageDraw.Draw(picture).ellipse(
                (8 + 40 * (k % 3), 8 + 40 * (k // 3), 36 + 40 * (k % 3), 36 + 40 * (k // 3)), "red"
            )
        picture.save(folder / str(one.image))
    (folder / RECORDS).write_bytes(b"".join(map(to_line, records)))
    return folder


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one run to look at and one to label, and a secret beside it."""
    outside = tmp_path_factory.mktemp("outside")
    root = outside / "runs"
    write_run(root / "first")
    write_run(root / "to-label")
    write_run(root / "to-audit")  # the newest, which the page opens
    write_run(outside / "secret")
    return root


@contextmanager
def served(models: countgen.Models, runs: Path | None = None, auth: tuple[str, str] | None = None) -> Iterator[str]:
    """The address of a demo; what Gradio leaves open is collected here, not in the middle of somebody else's test."""
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
    """The address of a served demo."""
    with served(models, runs) as url:
        yield url


@pytest.fixture(scope="session")
def client(demo: str) -> Iterator[Client]:
    """A program that visits the demo."""
    client = Client(demo, verbose=False)
    yield client
    client.close()


@pytest.fixture
def api(client: Client) -> Client:
    """The same program as a new visitor: opening one takes a tenth of a second, closing it a whole one."""
    client.reset_session()
    return client


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pages are photographed: the folder COUNTGEN_SCREENSHOTS, otherwise pytest's own."""
    given = os.environ.get("COUNTGEN_SCREENSHOTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def open_page(demo: str, chromium: Browser, screenshots: Path, request: pytest.FixtureRequest) -> Iterator["Opener"]:
    """Opens the demo as a new visitor; afterwards no page may have reported an error but the refusals it expects."""
    opener = Opener(demo, chromium)
    yield opener
    for number, page in enumerate(opener.pages):
        page.screenshot(path=screenshots / f"{request.node.name}-{number}.png", full_page=True)
    for context in opener.contexts:
        context.close()
    assert not opener.errors
    assert opener.refused == opener.refusals


def _ours(error: Error) -> bool:
    """Whether a page's error came from its own script: Gradio's, served from its assets, stumble now and then."""
    frames = [line for line in (error.stack or "").splitlines() if line.strip().startswith("at ")]
    return not frames or "/assets/" not in frames[0] or "eval" in frames[0]


class Opener:
    """Opens pages, and keeps what they report.

    Attributes:
        refusals: requests that the test expects a full queue to refuse; the browser reports each.
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
        page.on("console", self._hear)
        page.goto(self.url)
        page.locator("#go").wait_for()
        self.contexts.append(context)
        self.pages.append(page)
        return page

    def _hear(self, said: ConsoleMessage) -> None:
        if said.type != "error":
            return
        if "status of 429" in said.text:
            self.refused += 1
        else:
            self.errors.append(said.text)
