"""One demo server for all tests of this folder."""

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from gradio_client import Client
from playwright.sync_api import Browser, BrowserContext, Page, expect

import countgen
from countgen.app.demo.limits import Limits
from countgen.app.demo.page import build, launch
from countgen.app.demo.worker import Worker

# A long timeout, for machines with other load.
expect.set_options(timeout=60_000)

LIMITS = replace(Limits(), max_jobs=5, max_jobs_of_client=4, seconds=(2, 5, 20))


@contextmanager
def served(models: countgen.Models, auth: tuple[str, str] | None = None, limits: Limits = LIMITS) -> Iterator[str]:
    """Serve a demo and yield its URL; objects that Gradio leaves open are collected here, not during another test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        page = build(limits, Worker(limits, {"miniature": models}))
        url = launch(page, auth=auth).rstrip("/")
    yield url
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        page.close(verbose=False)
        gc.collect()


@pytest.fixture(scope="session")
def demo(models: countgen.Models) -> Iterator[str]:
    """Serve one demo for all tests."""
    with served(models) as url:
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


class Opener:
    """Opens pages in new browser contexts, and records the errors that they report and the addresses they ask."""

    def __init__(self, url: str, browser: Browser) -> None:
        self.url, self.browser = url, browser
        self.contexts: list[BrowserContext] = []
        self.errors: list[str] = []
        self.asked: list[str] = []

    def __call__(self, width: int = 1280, height: int = 900, scheme: str = "light") -> Page:
        context = self.browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.goto(self.url)
        page.locator("#image .image-container > button[aria-label]").wait_for()  # the page's script has run
        return page


@pytest.fixture
def open_page(demo: str, chromium: Browser) -> Iterator[Opener]:
    """Open the demo; afterwards no error may have been reported, and no other host asked."""
    opener = Opener(demo, chromium)
    yield opener
    for context in opener.contexts:
        context.close()
    assert opener.errors == []
    assert opener.asked
    assert all(url.startswith((demo, "data:", "blob:")) for url in opener.asked)
