"""Loading of weights from folders and files, with the components that presets replace."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import countgen
from countgen import backbones, miniature
from countgen.backbones.loading import described
from countgen.backbones.registry import configured
from countgen.files.hub import at_revision
from tests.countgen.backbones.conftest import tiny_decoder

SDXL = miniature.FOLDER / "mini-sdxl-turbo"
PIXART = miniature.FOLDER / "mini-pixart-dmd"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def test_load_takes_another_size_and_scheduler() -> None:
    backbone = backbones.load("miniature", height=64, width=96, scheduler="EulerDiscreteScheduler")
    assert backbone.latent_shape == (4, 16, 24)
    assert type(backbone.pipeline.scheduler).__name__ == "EulerDiscreteScheduler"
    assert backbone.pipeline.scheduler.config.prediction_type == "v_prediction"


def test_the_embedded_pixart_reaches_a_confirmed_count() -> None:
    pixart = countgen.load("miniature-pixart", device="cpu")
    assert pixart.backbone.pipeline.scheduler.config.prediction_type == "v_prediction"  # of the checkpoint
    result = countgen.generate("a photo of four cats", pixart, seed=1, max_evaluations=200)
    assert result.confirmed
    assert result.counts == (4,)
    assert result.verified


def test_what_the_cache_lacks_is_downloaded(hub_snapshot: Callable[..., Path]) -> None:
    preset = configured("sdxl-turbo", revision="main")
    assert described("sdxl-turbo", preset) == "sdxl-turbo (to be downloaded)"
    shutil.copytree(SDXL / "vae", hub_snapshot("stabilityai/sdxl-turbo") / "vae")
    assert described("sdxl-turbo", preset) == "sdxl-turbo (1 MB)"


def test_a_local_folder_replaces_a_published_checkpoint() -> None:
    dtype = torch.float16  # in which the preset replaces the VAE
    backbone: Any = backbones.load("sdxl-turbo", repository=str(SDXL), height=128, width=128, dtype=dtype)
    assert torch.equal(backbone.denoiser.conv_in.weight, load_file(SDXL / "unet" / WEIGHTS)["conv_in.weight"])


def test_another_repository_does_not_inherit_revision_and_variant() -> None:
    own, other = configured("sdxl-turbo"), configured("sdxl-turbo", repository="owner/fine-tune")
    assert own.revision is not None
    assert (own.variant, other.variant, other.revision, other.vae) == ("fp16", None, None, own.vae)
    given = configured("sdxl-turbo", repository="owner/fine-tune", revision="abc", variant="bf16")
    assert (given.revision, given.variant) == ("abc", "bf16")


def test_another_number_of_steps_drops_the_presets_timesteps() -> None:
    assert configured("hyper-sdxl").timesteps == (800,)
    assert configured("hyper-sdxl", num_inference_steps=4).timesteps is None
    assert configured("hyper-sdxl", num_inference_steps=2, timesteps=(800, 400)).timesteps == (800, 400)


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"num_inference_step": 4}, "unknown option 'num_inference_step'. Did you mean num_inference_steps"),
    ({"scheduler": "EulerDiscretScheduler"}, "EulerDiscreteScheduler"),
    ({"num_inference_steps": 0}, "num_inference_steps must be a whole number of at least 1, got 0"),
    ({"height": -128}, "height must be"),
    ({"width": 1.5}, "width must be"),
    ({"guidance_scale": "high"}, "guidance_scale must be a number of at least 0"),
    ({"guidance_scale": float("nan")}, "guidance_scale must be a number of at least 0"),
    ({"timesteps": (1, 2)}, "2 timesteps were given for 1 steps"),
    ({"memory": "tight"}, "fast, low"),
    ({"repository": str(SDXL / "unet")}, "is a folder without a model_index.json"),
    ({"repository": str(SDXL / "model_index.json")}, "is not a .safetensors file"),
    ({"repository": "no/where/at-all"}, "does not exist"),
    ({"repository": ""}, "does not exist"),
]


@pytest.mark.parametrize(("changes", "message"), IMPOSSIBLE)
def test_impossible_options_are_errors_before_loading(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backbones.load("sdxl-turbo", **changes)


def test_parts_that_cannot_be_read_are_errors_with_advice(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        backbones.load("miniature", denoiser="nowhere.safetensors")
    with pytest.raises(ValueError, match="no tiny decoder"):
        backbones.load("miniature", draft=True)
    (tmp_path / "pixart.safetensors").touch()
    with pytest.raises(ValueError, match="denoiser="):
        backbones.load("pixart-alpha", repository=str(tmp_path / "pixart.safetensors"))


def test_a_folder_with_only_a_transformer_replaces_the_denoiser_unless_it_is_a_pickle(tmp_path: Path) -> None:
    weights = shutil.copytree(PIXART / "transformer", tmp_path / "transformer") / WEIGHTS
    backbone: Any = backbones.load("miniature-pixart", denoiser=str(tmp_path))
    for name, loaded in backbone.denoiser.named_parameters():
        assert torch.equal(loaded, load_file(weights)[name].float())
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(OSError, match="convert it once"):
        backbones.load("miniature-pixart", denoiser=str(tmp_path))


def test_a_revision_follows_a_hub_id_and_an_existing_path_may_have_an_at_sign(tmp_path: Path) -> None:
    assert at_revision("owner/name") == ("owner/name", None)
    assert at_revision("owner/name/unet.safetensors@v2") == ("owner/name/unet.safetensors", "v2")
    (tmp_path / "mine@home").mkdir()
    assert at_revision(str(tmp_path / "mine@home")) == (str(tmp_path / "mine@home"), None)


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks` argument")  # diffusers' own
def test_replacements_are_loaded_at_their_revision_from_the_hubs_cache(hub_snapshot: Callable[..., Path]) -> None:
    for revision, value in (("main", 1.0), ("older", 2.0)):
        weights = shutil.copytree(SDXL / "unet", hub_snapshot("owner/fine-tune", revision) / "unet") / WEIGHTS
        tensors = load_file(weights)
        save_file(tensors | {"conv_in.bias": torch.full_like(tensors["conv_in.bias"], value)}, weights)
        tiny_vae = tiny_decoder()
        torch.nn.init.constant_(tiny_vae.decoder.layers[0].bias, value)
        tiny_vae.save_pretrained(hub_snapshot("owner/tiny", revision))

    for revision, value in (("main", 1.0), ("older", 2.0)):
        for denoiser in (f"owner/fine-tune@{revision}", f"owner/fine-tune/unet/{WEIGHTS}@{revision}"):
            loaded: Any = backbones.load("miniature", denoiser=denoiser)
            assert float(loaded.denoiser.conv_in.bias[0]) == value
        drafting: Any = backbones.load("miniature", draft=True, tiny_vae=f"owner/tiny@{revision}")
        assert float(drafting.tiny_vae.decoder.layers[0].bias[0]) == value
