"""The size of a model's weights is that of the files which are loaded."""

import json
from dataclasses import replace
from pathlib import Path

from countgen import miniature
from countgen.backbones.registry import find
from countgen.backbones.weight_files import bytes_here, described

MODEL = miniature.FOLDER / "mini-sdxl-turbo"
PRESET = find("miniature")[1]


def test_a_folder_has_the_size_of_its_weights() -> None:
    size = sum(file.stat().st_size for file in MODEL.glob("*/*.safetensors"))
    assert bytes_here(PRESET) == size
    assert described("miniature", PRESET) == f"miniature ({size / 1e6:.0f} MB)"


def test_one_variant_is_counted_and_a_missing_shard_is_missed(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_text(json.dumps({"unet": ["diffusers", "UNet2DConditionModel"]}))
    (tmp_path / "unet" / "config.json").write_text("{}")
    (tmp_path / "unet" / "weights.safetensors").write_bytes(bytes(40))
    (tmp_path / "unet" / "weights.fp16.safetensors").write_bytes(bytes(20))
    preset = replace(PRESET, repository=str(tmp_path))
    assert bytes_here(preset) == 40
    assert bytes_here(replace(preset, variant="fp16")) == 20
    index = tmp_path / "unet" / "weights.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}))
    (tmp_path / "unet" / "1.safetensors").write_bytes(bytes(7))
    assert bytes_here(preset) is None
    (tmp_path / "unet" / "2.safetensors").write_bytes(bytes(8))
    assert bytes_here(preset) == 15


def test_what_the_cache_lacks_is_downloaded() -> None:
    assert described("sdxl-turbo", find("sdxl-turbo")[1]) == "sdxl-turbo (to be downloaded)"


def test_a_denoisers_repository_need_not_be_a_whole_pipeline(tmp_path: Path) -> None:
    base, denoiser = tmp_path / "base", tmp_path / "denoiser"
    for folder in (base / "vae", denoiser / "transformer"):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "diffusion_pytorch_model.safetensors").write_bytes(bytes(100))
    (base / "model_index.json").write_text(json.dumps({"vae": ["diffusers", "AutoencoderKL"]}))
    preset = replace(find("pixart-dmd")[1], repository=str(base), revision=None, denoiser=str(denoiser), variant=None)
    assert bytes_here(preset) == 200
