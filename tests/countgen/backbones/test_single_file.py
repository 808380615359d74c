"""A checkpoint in one file is recognised, and loaded without the hub."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from countgen import backbones
from countgen.backbones.sources import find_source
from tests.countgen.backbones.conftest import images_of, stock_images, tiny

SIZE = {"height": 32, "width": 64}


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[Path, Path]:
    """Return a file with the text encoder and one tensor of the U-Net, and a folder with everything else."""
    pipeline = tiny("stable_diffusion")
    folder = tmp_path / "configs"
    pipeline.save_pretrained(folder)
    (folder / "text_encoder" / "model.safetensors").unlink()
    text = {
        "cond_stage_model.transformer." + (key if key.startswith("text_model.") else f"text_model.{key}"): tensor
        for key, tensor in pipeline.text_encoder.state_dict().items()
    }
    file = tmp_path / "fine-tune.safetensors"
    save_file(text | {"model.diffusion_model.input_blocks.0.0.bias": pipeline.unet.conv_in.bias}, file)
    return file, folder


def test_a_checkpoint_in_one_file_gives_the_image_of_its_pipeline(checkpoint: tuple[Path, Path]) -> None:
    file, folder = checkpoint
    parts = {"config": str(folder), "denoiser": str(folder), "vae": str(folder / "vae")}
    named = backbones.load("sd-turbo", repository=str(file), variant=None, **parts, **SIZE)
    recognised = backbones.load(file, num_inference_steps=1, **parts, **SIZE)
    expected = stock_images(tiny("stable_diffusion"), named, [3])
    for backbone in (named, recognised):
        torch.testing.assert_close(images_of(backbone, [3]), expected, atol=1e-4, rtol=0)


def test_a_checkpoint_in_one_file_is_recognised(checkpoint: tuple[Path, Path]) -> None:
    file, folder = checkpoint
    source = find_source(file, config=str(folder))
    assert (source.family, source.name) == ("stable_diffusion", "fine-tune.safetensors")
    assert source.preset.num_inference_steps == 4
    assert "has trailing timesteps" in source.chosen
