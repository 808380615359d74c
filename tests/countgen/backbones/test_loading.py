"""Weights are read from folders and files; parts are replaced as presets say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from countgen import backbones, miniature
from countgen.backbones.loading import _load_denoiser, at_revision
from countgen.backbones.registry import configured

SDXL = miniature.FOLDER / "mini-sdxl-turbo"
PIXART = miniature.FOLDER / "mini-pixart-dmd"


def weights_of(backbone: backbones.Backbone) -> dict[str, torch.Tensor]:
    return dict(backbone.denoiser.named_parameters())


def test_a_denoiser_is_replaced_by_one_file() -> None:
    file = SDXL / "unet" / "diffusion_pytorch_model.safetensors"
    backbone = backbones.load("miniature", denoiser=str(file))
    name, loaded = next(iter(weights_of(backbone).items()))
    assert torch.equal(loaded, load_file(file)[name].float())


def test_a_denoiser_is_replaced_by_a_folder_that_has_nothing_else(tmp_path: Path) -> None:
    shutil.copytree(PIXART / "transformer", tmp_path / "transformer")
    backbone = backbones.load("miniature-pixart", denoiser=str(tmp_path))
    file = tmp_path / "transformer" / "diffusion_pytorch_model.safetensors"
    name, loaded = next(iter(weights_of(backbone).items()))
    assert torch.equal(loaded, load_file(file)[name].float())


def test_a_denoiser_that_is_nowhere_is_named() -> None:
    with pytest.raises(OSError, match="nowhere"):
        backbones.load("miniature", denoiser="nowhere.safetensors")


def test_a_family_without_single_files_says_what_to_give_instead(tmp_path: Path) -> None:
    file = tmp_path / "pixart.safetensors"
    file.touch()
    with pytest.raises(ValueError, match="denoiser="):
        backbones.load("pixart-alpha", repository=str(file))


def test_a_preset_without_a_tiny_decoder_refuses_drafts() -> None:
    with pytest.raises(ValueError, match="no tiny decoder"):
        backbones.load("miniature", draft=True)


def test_an_unknown_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="available: fast, low"):
        backbones.load("miniature", memory="tight")


def test_another_size_and_scheduler_are_taken_from_the_preset() -> None:
    backbone = backbones.load("miniature", height=64, width=96, scheduler="EulerDiscreteScheduler")
    assert backbone.latent_shape == (4, 16, 24)
    assert type(backbone.pipeline.scheduler).__name__ == "EulerDiscreteScheduler"
    assert backbone.pipeline.scheduler.config.prediction_type == "v_prediction"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])  # float16 is where the preset replaces the VAE
def test_a_folder_takes_the_place_of_a_published_checkpoint(dtype: torch.dtype) -> None:
    backbone = backbones.load("sdxl-turbo", repository=str(SDXL), height=128, width=128, dtype=dtype)
    file = SDXL / "unet" / "diffusion_pytorch_model.safetensors"
    name, loaded = next(iter(weights_of(backbone).items()))
    assert torch.equal(loaded, load_file(file)[name].to(dtype))


def test_another_repository_is_read_without_the_presets_revision_and_variant_unless_they_are_given() -> None:
    own, other = configured("sdxl-turbo"), configured("sdxl-turbo", repository="owner/fine-tune")
    assert own.revision is not None
    assert (own.variant, other.variant, other.revision, other.vae) == ("fp16", None, None, own.vae)
    given = configured("sdxl-turbo", repository="owner/fine-tune", revision="abc", variant="bf16")
    assert (given.revision, given.variant) == ("abc", "bf16")


def test_other_steps_leave_timesteps_that_were_made_for_one() -> None:
    assert configured("hyper-sdxl").timesteps == (800,)
    assert configured("hyper-sdxl", num_inference_steps=4).timesteps is None
    assert configured("hyper-sdxl", num_inference_steps=2, timesteps=(800, 400)).timesteps == (800, 400)


def test_a_single_file_with_a_replaced_denoiser_reads_its_config_elsewhere() -> None:
    file = SDXL / "unet" / "diffusion_pytorch_model.safetensors"
    preset = configured("hyper-sdxl", repository="fine-tune.safetensors", config=str(SDXL), denoiser=str(file))
    (denoiser,) = _load_denoiser(StableDiffusionXLPipeline, preset, torch.float32).values()
    assert torch.equal(denoiser.conv_in.weight, load_file(file)["conv_in.weight"].float())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_inference_step": 4}, "unknown option 'num_inference_step'. Did you mean num_inference_steps"),
        ({"scheduler": "EulerDiscretScheduler"}, "near names: EulerDiscreteScheduler"),
        ({"num_inference_steps": 0}, "num_inference_steps must be a whole number from 1 on, got 0"),
        ({"height": -128}, "height must be"),
        ({"width": 1.5}, "width must be"),
        ({"guidance_scale": "high"}, "guidance_scale must be a number from 0 on"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be a number from 0 on"),
        ({"timesteps": (1, 2)}, "2 timesteps were given for 1 steps"),
    ],
)
def test_options_that_mean_nothing_are_refused_before_anything_is_read(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backbones.load("sdxl-turbo", **changes)


def test_published_denoisers_are_kept_apart_from_the_rest_of_their_pipelines() -> None:
    known = {name: preset for name, (_, preset) in backbones.presets().items()}
    assert at_revision(known["pixart-dmd"].denoiser or "")[0] == "PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512"
    assert known["pixart-dmd"].repository == "PixArt-alpha/PixArt-XL-2-512x512"
    assert known["hyper-sdxl"].denoiser is not None
    assert known["hyper-sdxl"].denoiser.startswith("ByteDance/Hyper-SD/")


def test_a_denoiser_that_has_no_safetensors_says_what_to_do(tmp_path: Path) -> None:
    shutil.copytree(PIXART / "transformer", tmp_path / "transformer")
    (tmp_path / "transformer" / "diffusion_pytorch_model.safetensors").rename(
        tmp_path / "transformer" / "diffusion_pytorch_model.bin"
    )
    with pytest.raises(OSError, match="convert it once"):
        backbones.load("miniature-pixart", denoiser=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("owner/name", ("owner/name", None)),
        ("owner/name@abc123", ("owner/name", "abc123")),
        ("owner/name/unet.safetensors@v2", ("owner/name/unet.safetensors", "v2")),
    ],
)
def test_a_revision_is_read_behind_a_hub_id(name: str, expected: tuple[str, str | None]) -> None:
    assert at_revision(name) == expected


def test_a_path_with_an_at_sign_stays_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "mine@home"
    folder.mkdir()
    assert at_revision(str(folder)) == (str(folder), None)


LOAD = """
import json, sys
from diffusers import AutoencoderTiny
from countgen import backbones

found = {}
for revision in ("main", "older"):
    folder = backbones.load("miniature", denoiser=f"owner/fine-tune@{revision}")
    file = backbones.load("miniature", denoiser=f"owner/fine-tune/unet/diffusion_pytorch_model.safetensors@{revision}")
    drafting = backbones.load("miniature", draft=True, tiny_vae=f"owner/tiny@{revision}")
    found[revision] = [
        float(folder.denoiser.conv_in.bias[0]),
        float(file.denoiser.conv_in.bias[0]),
        float(drafting.tiny_vae.decoder.layers[0].bias[0]),
    ]
print(json.dumps(found))
"""


def test_every_replacement_is_read_at_its_revision_from_the_hubs_cache(tmp_path: Path) -> None:
    from diffusers import AutoencoderTiny

    widths = (8, 8, 8)
    ones = (1, 1, 1)
    for revision, value in (("main", 1.0), ("older", 2.0)):
        unet = _cached(tmp_path, "fine-tune", revision) / "unet"
        shutil.copytree(SDXL / "unet", unet)
        weights = load_file(unet / "diffusion_pytorch_model.safetensors")
        weights["conv_in.bias"] = torch.full_like(weights["conv_in.bias"], value)
        save_file(weights, unet / "diffusion_pytorch_model.safetensors")
        tiny_vae = AutoencoderTiny(
            encoder_block_out_channels=widths, decoder_block_out_channels=widths,
            num_encoder_blocks=ones, num_decoder_blocks=ones,
        )  # fmt: skip
        torch.nn.init.constant_(tiny_vae.decoder.layers[0].bias, value)
        tiny_vae.save_pretrained(_cached(tmp_path, "tiny", revision))

    # The hub's cache is chosen when the library is imported.
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout.splitlines()[-1]) == {"main": [1.0, 1.0, 1.0], "older": [2.0, 2.0, 2.0]}


def _cached(home: Path, name: str, revision: str) -> Path:
    """Where the hub's cache keeps a revision of owner/name."""
    repository = home / "hub" / f"models--owner--{name}"
    commit = {"main": "1" * 40, "older": "2" * 40}[revision]
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / revision).write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True, exist_ok=True)
    return repository / "snapshots" / commit
