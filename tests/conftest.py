"""Tests run offline, on one thread, and leave nothing in the user's folders."""

import atexit
import gc
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Before any library reads them.
_CONFIG_FOLDER = tempfile.mkdtemp(prefix="countgen-tests-")
atexit.register(shutil.rmtree, _CONFIG_FOLDER, ignore_errors=True)
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    TRANSFORMERS_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    YOLO_OFFLINE="true",
    YOLO_AUTOINSTALL="false",
    YOLO_VERBOSE="false",
    YOLO_CONFIG_DIR=_CONFIG_FOLDER,
    MPLCONFIGDIR=_CONFIG_FOLDER,
    # Of the processes that tests start, and of threads that tests ask for: waiting ones take no core from the others.
    OMP_NUM_THREADS="1",
    OMP_WAIT_POLICY="passive",
    # Ray's workers, which a test waits for, would give way to every other process.
    RAY_worker_niceness="0",
)
os.environ.pop("COLUMNS", None)  # a width of 80 in xdist's workers, where lines would be wrapped
# Images and records are written through to the disk, which takes milliseconds each; a folder in memory takes none.
if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 4 * 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")  # of tmp_path

import torch  # noqa: E402

# Several workers share the cores; one thread each is faster, and equal from run to run.
torch.set_num_threads(1)

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    import countgen

_HYPOTHESIS = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
settings.register_profile("default", _HYPOTHESIS, max_examples=100, derandomize=True)
settings.register_profile("nightly", _HYPOTHESIS, max_examples=2000)
settings.load_profile("default")

CHROMIUM_ARGUMENTS = (
    "--no-sandbox --headless=new --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Benchmarks set the number of threads they are told to, and pictures differ in the last bit with it."""
    yield
    torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Let workers steal tests instead of taking turns: a file stays with one worker, which makes its fixtures once."""
    if config.getoption("numprocesses", None) and config.getoption("dist") == "no":
        config.option.dist = "worksteal"


FIRST = ("browser", "faults", "docs")
"""Folders of tests that run first, because the longest are among them."""
HEAVY = ("gradio", "ray", "ultralytics")
"""Libraries that the core imports none of."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import only the folders and files with tests of the core if only the core is asked for."""
    if config.getoption("markexpr") != "core":
        return None
    files = collection_path.rglob("test_*.py") if collection_path.is_dir() else [collection_path]
    return None if any("mark.core" in path.read_text(encoding="utf-8") for path in files) else True


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    """Put the longest tests first; in the core, leave out those of the models that need Ultralytics.

    The first worker begins with the long tests, and the others steal its short ones: no worker ends with a long test
    while the others have nothing left. The order is random apart from that.
    """
    if config.getoption("markexpr") == "core":
        items[:] = [item for item in items if "models" not in item.fixturenames]
    items.sort(key=lambda item: item.path.relative_to(Path(__file__).parent).parts[0] not in FIRST)


@pytest.fixture(scope="session", autouse=True)
def _core_stays_light(pytestconfig: pytest.Config) -> Iterator[None]:
    yield
    if pytestconfig.getoption("markexpr") == "core":
        assert [name for name in HEAVY if name in sys.modules] == []


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the imported libraries out of garbage collections, which took a fifteenth of the time of the tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.fixture(scope="session")
def models() -> Iterator["countgen.Models"]:
    """The embedded backbone, critics and judge; loaded once, changed by no test."""
    import countgen

    loaded = countgen.load("miniature", device="cpu")
    gc.freeze()  # what was imported for it
    yield loaded
    assert loaded.backbone.memory == "fast", "a test changed the models that all tests share"


@pytest.fixture(scope="session")
def light_models() -> "countgen.Models":
    """The embedded backbone with the critic and the judge that need no detector library; changed by no test."""
    import countgen

    return countgen.load("miniature", critics="miniature-heatmap", judge="miniature-fcos", device="cpu")


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache of this test, which need not be there yet; its client asks for the folder at every look-up."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def hub_snapshot(hub_cache: Path) -> Callable[..., Path]:
    """Return a function that makes the folder of a repository's revision in the hub's cache."""

    def make(repository: str, revision: str = "main") -> Path:
        folder = hub_cache / f"models--{repository.replace('/', '--')}"
        commit = revision if len(revision) == 40 else hashlib.sha1(revision.encode()).hexdigest()
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs" / revision).write_text(commit)
        (folder / "snapshots" / commit).mkdir(parents=True, exist_ok=True)
        return folder / "snapshots" / commit

    return make


@pytest.fixture(scope="session")
def chromium() -> Iterator["Browser"]:
    """One for the demo's tests and the report's: Playwright starts only once in a process."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium here: install it, the browser tests belong to the suite")
        pytest.skip("no chromium on the PATH: install Debian's package chromium to run the browser tests")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()
