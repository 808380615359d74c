"""Training of the generators, with few steps, on a CPU: loop, resume, teacher, sharpening, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from countgen.benchmarks.miniature import sharpen as sharpening
from countgen.benchmarks.miniature.__main__ import main
from countgen.benchmarks.miniature.generator import LATENT_SHAPE, SHIPPED, Generator, decode, export, read_generator
from countgen.benchmarks.miniature.sharpen import right_and_clear
from countgen.benchmarks.miniature.teacher import UNSPECIFIED

pytestmark = pytest.mark.filterwarnings(
    # diffusers and numpy 2: an __array__ without the copy keyword, in the solver's set_timesteps.
    "ignore:__array__ implementation doesn.t accept a copy keyword:DeprecationWarning"
)
PROMPTS = ["a photo of five cats", "two apples and three dogs on a table"]


@pytest.fixture(scope="module")
def shipped() -> tuple[Generator, Any]:
    """The shipped student, which stands for a teacher too, and its VAE."""
    return read_generator(SHIPPED)


def test_one_step_equals_the_stock_pipeline_of_an_export(shipped: tuple[Generator, Any], tmp_path: Path) -> None:
    from diffusers import StableDiffusionXLPipeline

    (generator, vae), noise = shipped, torch.randn(2, *LATENT_SHAPE)
    export(generator, vae, tmp_path, one_step=True)
    pipeline = StableDiffusionXLPipeline.from_pretrained(tmp_path, use_safetensors=True, dtype=torch.float32)
    expected = pipeline(
        PROMPTS, latents=noise, num_inference_steps=1, guidance_scale=0.0, height=128, width=128, output_type="pt"
    ).images
    with torch.no_grad():
        latents = generator.one_step(noise, generator.encode(generator.tokenize(PROMPTS)))
    torch.testing.assert_close(decode(vae, latents).clamp(0, 1), expected, atol=1e-4, rtol=0)
    assert not any("_name_or_path" in config.read_text() for config in tmp_path.rglob("*.json"))


def test_images_with_wrong_additional_or_unclear_objects_are_rejected() -> None:
    targets = torch.tensor([[2, 0, UNSPECIFIED]] * 5)
    counts = torch.tensor([[2, 0, 7], [1, 0, 7], [2, 1, 7], [2, 0, 0], [2, 0, 6]])
    at_another_threshold = torch.cat([counts[:4], torch.tensor([[2, 0, 5]])])
    assert right_and_clear(targets, torch.stack([counts, at_another_threshold])).tolist() == [True, *[False] * 4]


def test_teacher_and_sharpening_train_resume_and_export(
    shipped: tuple[Generator, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sharpening, "FIRST_TARGETS", 2)
    monkeypatch.setattr(sharpening, "STEPS", 1)
    monkeypatch.setattr(sharpening, "LATER_STEP_EVERY", 2)
    teacher, out = tmp_path / "teacher", tmp_path / "sharpen"
    command = ["teacher", "--device", "cpu", "--iterations", "1", "--batch-size", "1", "--number", "2"]
    main([*command, "--out", str(tmp_path / "random")])
    main([*command, "--out", str(teacher), "--init", str(SHIPPED)])
    assert "DPMSolver" in (teacher / "pipeline" / "scheduler" / "scheduler_config.json").read_text()
    command = ["sharpen", "--device", "cpu", "--out", str(out), "--batch-size", "8"]
    with pytest.raises(SystemExit):
        main([*command, "--iterations", "1"])
    assert "give --data" in capsys.readouterr().err
    for iterations in ("1", "2"):
        main([*command, "--iterations", iterations, "--data", str(teacher / "pipeline")])
    log = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert (log[0]["iteration"], log[-1]["iteration"]) == (1, 2)
    assert log[-1]["later_step"] > 0
    assert all(0 < record["one_step"] < 1 for record in log[:-1])
    trained, _ = read_generator(out / "pipeline")
    for part, same in (("text_encoders", True), ("unet", False)):
        after, before = (getattr(model, part).state_dict() for model in (trained, shipped[0]))
        assert all(torch.equal(after[name], before[name]) for name in before) is same
