"""A hub that does not answer is an error within seconds that says what to fetch."""

import time

import pytest
from huggingface_hub import constants

from countgen.files.hub import SECONDS, check_answers

FETCH = (
    r"run `hf download owner/none --revision v2` and bring the folder models--owner--none to .*, or give a local folder"
)


def test_a_hub_that_does_not_answer_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # refuses connections
    started = time.monotonic()
    with pytest.raises(OSError, match=f"a file is not .* http://127.0.0.1:9 does not answer .*{FETCH}"):
        check_answers("a file", "owner/none", "v2")
    assert time.monotonic() - started < SECONDS
