"""`--memory low` and `--draft` on the command line."""

import json
from pathlib import Path

import pytest
from PIL import Image

from countgen.app.cli import main
from countgen.images import read_recipe

PROMPT = "a photo of two apples"


def drawn(folder: Path, memory: str, capsys: pytest.CaptureFixture[str]) -> dict:
    arguments = ["generate", PROMPT, "--seed", "3", "--max-evaluations", "4", "--device", "cpu", "--json"]
    assert main([*arguments, "--memory", memory, "--out", str(folder)]) in (0, 1)
    return json.loads(capsys.readouterr().out)["images"][0]


@pytest.mark.slow
def test_low_memory_draws_what_fast_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fast, low = (drawn(tmp_path / memory, memory, capsys) for memory in ("fast", "low"))
    assert (low["counts"], low["judge_counts"]) == (fast["counts"], fast["judge_counts"])
    assert low["evaluations"] == fast["evaluations"]
    before, after = (Image.open(record["before"]) for record in (fast, low))
    # One grey level: the decoder takes pictures one by one, which rounds differently.
    assert max(abs(a - b) for a, b in zip(before.tobytes(), after.tobytes(), strict=True)) <= 1
    assert read_recipe(low["after"])["seed"] == 3


def test_a_draft_without_a_tiny_decoder_is_refused_before_anything_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pictures"
    assert main(["generate", PROMPT, "--draft", "--device", "cpu", "--out", str(out)]) == 2
    assert "no tiny decoder" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.png"))
