"""Loading of a checkpoint in one file, in the layout of community fine-tunes, without the hub."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from countgen import backbones
from countgen.backbones.sources import find_source

PROMPT = "a photo of three cats"
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "conv_in.": "input_blocks.0.0.",
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
}
VAE = [
    (r"up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"up.{1 - int(m[1])}.block.{m[2]}"),
    (r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{1 - int(m[1])}.upsample"),
    (r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2"),
    (r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample"),
    (r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}"),
    (r"mid_block\.attentions\.0", "mid.attn_1"),
    (r"(attn_1)\.group_norm", r"\1.norm"),
    (r"(attn_1)\.to_([qkv])", r"\1.\2"),
    (r"(attn_1)\.to_out\.0", r"\1.proj_out"),
    (r"conv_norm_out", "norm_out"),
    (r"conv_shortcut", "nin_shortcut"),
]


def original_unet_key(key: str) -> str:
    """Return the original name of a key of the tiny U-Net: two blocks down with one layer and two up with two."""
    for ours, theirs in ENDS.items():
        if key.startswith(ours):
            return theirs + key.removeprefix(ours)
    if ".resnets." in key:
        key = re.sub("|".join(RESNET), lambda m: RESNET[m[0]], key, count=1)
    key = re.sub(r"down_blocks\.(\d+)\.(resnets|attentions)\.0", _down, key)
    key = re.sub(r"down_blocks\.0\.downsamplers\.0\.conv", "input_blocks.2.0.op", key)
    key = re.sub(r"up_blocks\.(\d+)\.(resnets|attentions)\.(\d+)", _up, key)
    key = re.sub(r"up_blocks\.0\.upsamplers\.0", "output_blocks.1.2", key)
    key = re.sub(r"mid_block\.resnets\.(\d+)", lambda m: f"middle_block.{2 * int(m[1])}", key)
    return re.sub(r"mid_block\.attentions\.0", "middle_block.1", key)


def _down(match: re.Match[str]) -> str:
    return f"input_blocks.{2 * int(match[1]) + 1}.{'resnets attentions'.split().index(match[2])}"


def _up(match: re.Match[str]) -> str:
    return f"output_blocks.{2 * int(match[1]) + int(match[3])}.{'resnets attentions'.split().index(match[2])}"


def original_vae(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for key, tensor in weights.items():
        for ours, theirs in VAE:
            key = re.sub(ours, theirs, key)
        square = re.search(r"attn_1\.(q|k|v|proj_out)\.weight", key)
        found[key] = tensor[:, :, None, None] if square else tensor
    return found


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_pipeline: Callable[[str], Any]) -> tuple[Path, Path]:
    """Return one safetensors file with all weights, and a folder with the configs and the tokenizer."""
    pipeline = tiny_pipeline("stable_diffusion")
    folder = tmp_path / "configs"
    pipeline.save_pretrained(folder)
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    unet = {f"model.diffusion_model.{original_unet_key(k)}": v for k, v in pipeline.unet.state_dict().items()}
    vae = {f"first_stage_model.{k}": v for k, v in original_vae(pipeline.vae.state_dict()).items()}
    text = {
        "cond_stage_model.transformer." + (k if k.startswith("text_model.") else f"text_model.{k}"): v
        for k, v in pipeline.text_encoder.state_dict().items()
    }
    file = tmp_path / "fine-tune.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in (unet | vae | text).items()}, file)
    return file, folder


def test_a_checkpoint_in_one_file_gives_the_image_of_its_pipeline(
    checkpoint: tuple[Path, Path], tiny_pipeline: Callable[[str], Any]
) -> None:
    file, folder = checkpoint
    backbone = backbones.load("sd-turbo", repository=str(file), config=str(folder), variant=None, height=32, width=64)
    with torch.no_grad():
        image = backbone.render(backbone.initial_latents([3]), backbone.encode_prompt(PROMPT), [3])
    stock = tiny_pipeline("stable_diffusion")(
        PROMPT, num_inference_steps=1, guidance_scale=0.0, height=32, width=64,
        generator=torch.Generator().manual_seed(3), output_type="pt",
    ).images  # fmt: skip
    torch.testing.assert_close(image, stock, atol=1e-4, rtol=0)


def test_a_checkpoint_in_one_file_is_recognised(checkpoint: tuple[Path, Path]) -> None:
    file, folder = checkpoint
    source = find_source(file, config=str(folder))
    assert (source.family, source.name, source.preset.num_inference_steps) == (
        "stable_diffusion",
        "fine-tune.safetensors",
        4,
    )
    assert "has trailing timesteps" in source.chosen
    backbone = backbones.load(file, config=str(folder), num_inference_steps=1, height=32, width=64)
    named = backbones.load("sd-turbo", repository=str(file), config=str(folder), variant=None, height=32, width=64)
    assert torch.equal(backbone.denoiser.conv_in.weight, named.denoiser.conv_in.weight)
