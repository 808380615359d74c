import json
from pathlib import Path

import pytest
import torch

from benchmarks import speed
from benchmarks.speed_models import MODELS, build


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_timed_and_a_variant_that_fails_leaves_its_error(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "speed.json"
    arguments = ["--device", "cpu", "--size", "tiny", "--models", name, "--repeats", "1", "--out", str(out)]
    assert speed.main([*arguments, "--max-seconds", "4"]) == 0
    rows = json.loads(out.read_text())["rows"]
    timed = {row["what"]: row["milliseconds"] for row in rows if row["milliseconds"]}
    assert {"ReNO's loop", "eager, full decoder, one view"} <= set(timed)
    assert all(
        "failed" in row["note"] or "out of time" in row["note"] for row in rows if row["what"].startswith("graph")
    )
    assert "| x floor |" in capsys.readouterr().out


def test_the_memory_table_counts_without_a_gpu_and_says_what_needs_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert speed.main(["--device", "cpu", "--size", "tiny", "--memory", "--models", "sd-turbo"]) == 0
    _, _, full, tiny = capsys.readouterr().out.splitlines()
    assert full.startswith("| sd-turbo | full |")
    assert full.count("needs a GPU") == tiny.count("needs a GPU") == 2


def test_a_model_without_tokens_renders_from_its_own_embeddings() -> None:
    model = build("sd-turbo", "tiny", torch.device("cpu"), torch.float32)
    images = model.backbone.render(model.backbone.initial_latents([0]), model.encode())
    assert images.shape == (1, 3, 64, 64)
    assert torch.isfinite(images).all()


def test_an_unknown_model_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="sd-turbo"):
        build("sdxxl", "tiny", torch.device("cpu"), torch.float32)
