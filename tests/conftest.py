"""Tests run offline, on one thread, and leave nothing in the user's folders."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator

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
)

import torch  # noqa: E402

# Several workers share the cores; one thread each is faster, and equal from run to run.
torch.set_num_threads(1)

import pytest  # noqa: E402

import countgen  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Benchmarks set the number of threads they are told to, and pictures differ in the last bit with it."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def models() -> countgen.Models:
    """The embedded backbone, critics and judge; loaded once, changed by no test."""
    return countgen.load("miniature", device="cpu")
