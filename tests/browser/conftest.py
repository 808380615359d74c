"""One demo server for all tests of this folder."""

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from gradio_client import Client
from playwright.sync_api import Browser, Page, expect

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


@pytest.fixture
def open_page(demo: str, chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Open the demo in new browser contexts; afterwards no error may have been reported, and no other host asked.

    Yields:
        A function of the window's width, height and colour scheme; its `errors` are those reported so far.
    """
    contexts, errors, addresses = [], [], []

    def opened(width: int = 1280, height: int = 900, scheme: str = "light") -> Page:
        contexts.append(chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: addresses.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(demo)
        page.locator("#image .image-container > button[aria-label]").wait_for()  # the page's script has run
        return page

    opened.errors = errors
    yield opened
    for context in contexts:
        context.close()
    assert errors == []
    assert addresses
    assert all(address.startswith((demo, "data:", "blob:")) for address in addresses)
