"""Weights are read from folders and files; parts are replaced as presets say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from countgen import backbones, miniature

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


def test_a_family_without_single_files_says_what_to_give_instead() -> None:
    with pytest.raises(ValueError, match="denoiser="):
        backbones.load("pixart-alpha", repository="pixart.safetensors")


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


def test_published_denoisers_are_kept_apart_from_the_rest_of_their_pipelines() -> None:
    known = {name: preset for name, (_, preset) in backbones.presets().items()}
    assert known["pixart-dmd"].denoiser == "PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512"
    assert known["pixart-dmd"].repository == "PixArt-alpha/PixArt-XL-2-512x512"
    assert known["hyper-sdxl"].denoiser is not None
    assert known["hyper-sdxl"].denoiser.startswith("ByteDance/Hyper-SD/")
