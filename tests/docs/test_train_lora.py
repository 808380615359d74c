"""The LoRA of docs/train_lora.py learns four images by heart, and stock diffusers loads its file."""

from importlib import import_module
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors import safe_open

from countgen import Target, backbones, miniature
from countgen.benchmarks.evaluation.suites import Prompt
from countgen.models import load_critic


def test_the_loss_falls_and_stock_diffusers_loads_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "docs")
    lora = import_module("train_lora")
    backbone, critics = backbones.load("miniature"), [load_critic("miniature-yolo")]
    prompt = Prompt("two cats and three lemons", (Target("cat", 2), Target("lemon", 3)), "toy")
    losses = lora.train(backbone, critics, [prompt], 24, rank=4, learning_rate=2e-3, seeds=range(4))
    assert min(losses[-3:]) < 0.7 * losses[0]
    file = tmp_path / "lora.safetensors"
    lora.save(backbone, file)
    with safe_open(file, "pt") as tensors:
        assert all(name.startswith("lora_unet_") for name in tensors.keys())  # noqa: SIM118
    stock = StableDiffusionXLPipeline.from_pretrained(
        miniature.FOLDER / "mini-sdxl-turbo", dtype=torch.float32, use_safetensors=True
    )
    latents, options = backbone.initial_latents([3]), {"num_inference_steps": 1, "guidance_scale": 0.0}
    options |= {"height": 128, "width": 128, "latents": latents, "output_type": "pt"}
    plain = stock(prompt.prompt, **options).images
    stock.load_lora_weights(file)
    with torch.no_grad():
        expected = backbone.render(latents, backbone.encode_prompt(prompt.prompt))
    torch.testing.assert_close(stock(prompt.prompt, **options).images, expected, atol=1e-3, rtol=0)
    assert (plain - expected).abs().max() > 0.05
