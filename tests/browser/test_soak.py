"""The soak test's own command, at the size of a smoke test: its calls follow the form and the API."""

import logging
import re

import pytest

from countgen.app.demo import soak

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio.*"),
    pytest.mark.filterwarnings("ignore:unclosed event loop:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def test_the_soak_test_generates_uploads_and_cancels(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("countgen.app.demo", "httpx"):  # the command silences them, and the fixture restores their levels
        caplog.set_level(logging.ERROR, name)
    soak.main(["--jobs", "2", "--warm-up", "1", "--uploads", "1", "--cancels", "1"])
    printed = capsys.readouterr().out
    for line in (
        r"2 jobs, 1 sessions: memory \d+ MiB after 1 jobs",
        r"1 token uploads, 1 sessions: memory \d+ MiB",
        r"after a cancel: median \d+\.\d\d s, slowest \d+\.\d\d s of 1",
    ):
        assert re.search(line, printed)
