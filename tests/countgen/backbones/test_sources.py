"""A model is found by a preset, OWNER/NAME, a folder or a file, and sampled as its configs say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from countgen import backbones, miniature
from countgen.backbones.lora import Lora, parse
from countgen.backbones.sources import find_source
from tests.countgen.backbones.conftest import images_of, stock_images, tiny, write_lora

SDXL = miniature.FOLDER / "mini-sdxl-turbo"
PIXART = miniature.FOLDER / "mini-pixart-dmd"


def test_a_presets_own_repository_is_the_preset() -> None:
    for name in ("sdxl-turbo", "stabilityai/sdxl-turbo", "stabilityai/sdxl-turbo@abc"):
        source = find_source(name)
        assert (source.name, source.preset.num_inference_steps) == ("sdxl-turbo", 1)
        assert (source.preset.revision == "abc") == name.endswith("abc")
    assert find_source(SDXL).name == "miniature"


def test_a_folder_says_its_family_and_how_it_is_sampled(tmp_path: Path) -> None:
    folder = shutil.copytree(PIXART, tmp_path / "mine")
    shutil.copytree(SDXL / "vae", folder / "vae")
    source = find_source(folder)
    preset = source.preset
    assert (source.family, source.name, source.chosen) == ("pixart", "mine", "the defaults of PixArtAlphaPipeline")
    assert (preset.num_inference_steps, preset.guidance_scale, preset.height, preset.width) == (20, 4.5, 128, 128)
    backbone = backbones.load(folder, num_inference_steps=1, guidance_scale=1.0)
    assert (backbone.name, backbone.chosen) == ("mine", source.chosen)
    assert find_source(folder.rename(tmp_path / "mine-dmd")).preset.num_inference_steps == 4  # its name says few steps


def test_few_steps_are_seen_in_the_scheduler(tmp_path: Path) -> None:
    folder = shutil.copytree(SDXL, tmp_path / "mine")
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "_class_name": "LCMScheduler"}))
    source = find_source(folder)
    assert (source.preset.num_inference_steps, source.preset.guidance_scale) == (4, 0.0)
    assert "its scheduler is LCMScheduler" in source.chosen


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
    named = backbones.load("sd-turbo", repository=str(file), variant=None, **parts, height=32, width=64)
    recognised = backbones.load(file, num_inference_steps=1, **parts, height=32, width=64)
    expected = stock_images(tiny("stable_diffusion"), named, [3])
    for backbone in (named, recognised):
        torch.testing.assert_close(images_of(backbone, [3]), expected, atol=1e-4, rtol=0)


def test_a_checkpoint_in_one_file_is_recognised(checkpoint: tuple[Path, Path]) -> None:
    file, folder = checkpoint
    source = find_source(file, config=str(folder))
    assert (source.family, source.name) == ("stable_diffusion", "fine-tune.safetensors")
    assert source.preset.num_inference_steps == 4
    assert "has trailing timesteps" in source.chosen


def test_what_no_family_reads_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "KandinskyPipeline"}')
    with pytest.raises(ValueError, match="KandinskyPipeline is not supported; supported are Flux2Klein"):
        find_source(tmp_path)
    save_file({"a.weight": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="no whole model of a family that is read from one file"):
        find_source(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="did you mean miniature"):
        find_source("miniatur")


def test_only_half_precision_weights_are_read_by_their_variant(tmp_path: Path) -> None:
    folder = shutil.copytree(SDXL, tmp_path / "mine")
    for file in folder.rglob("*.safetensors"):
        file.rename(file.with_name(file.name.replace(".safetensors", ".fp16.safetensors")))
    assert find_source(folder).preset.variant == "fp16"
    assert backbones.load(folder, num_inference_steps=1).latent_shape == (4, 32, 32)


def test_a_repository_is_read_from_the_hubs_cache_at_its_revision(hub_snapshot: Callable[..., Path]) -> None:
    shutil.copytree(SDXL, hub_snapshot("owner/fine-tune", "v2"), dirs_exist_ok=True)
    backbone = backbones.load("owner/fine-tune@v2", num_inference_steps=1)
    assert (backbone.name, backbone.family) == ("owner/fine-tune", "stable_diffusion_xl")
    assert backbone.preset.revision == "v2"
    with pytest.raises(OSError, match=r"model_index\.json of owner/fine-tune@v3 is not in the hub's cache"):
        backbones.load("owner/fine-tune@v3")


def test_a_lora_is_read_with_its_weight() -> None:
    assert parse("owner/style") == Lora("owner/style", 1.0)
    assert parse("owner/style:0.5") == Lora("owner/style", 0.5)
    with pytest.raises(ValueError, match="must be a number"):
        parse("owner/style:x")


def test_a_lora_changes_the_image_by_its_weight(tmp_path: Path) -> None:
    if find_spec("peft") is None:
        with pytest.raises(ValueError, match=r"pip install \"countgen\[lora\]\""):
            backbones.load("miniature", loras=[Lora("owner/style")])
        pytest.skip("the rest needs peft, the extra countgen[lora]")
    file = write_lora(tmp_path)
    plain, none, half, whole = (
        images_of(backbones.load("miniature", loras=loras), [0])
        for loras in ((), *([parse(f"{file}:{weight}")] for weight in (0, 0.5, 1)))
    )
    torch.testing.assert_close(none, plain, atol=1e-4, rtol=0)
    assert 1e-3 < (half - plain).abs().mean() < (whole - plain).abs().mean()
