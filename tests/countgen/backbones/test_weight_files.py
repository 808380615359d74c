"""The size of a model's weights is that of the files which are loaded."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from countgen.backbones.registry import find
from countgen.backbones.weight_files import bytes_here, described


def component(folder: Path, file: str, size: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / file).write_bytes(bytes(size))


def test_one_variant_is_counted_and_a_missing_shard_is_missed(tmp_path: Path) -> None:
    component(tmp_path / "unet", "weights.safetensors", 40)
    component(tmp_path / "unet", "weights.fp16.safetensors", 20)
    preset = replace(find("miniature")[1], repository=str(tmp_path))
    assert bytes_here(preset) == 40
    assert bytes_here(replace(preset, variant="fp16")) == 20
    component(tmp_path / "vae", "weights-00001-of-00002.safetensors", 7)
    assert bytes_here(preset) is None
    component(tmp_path / "vae", "weights-00002-of-00002.safetensors", 8)
    assert bytes_here(preset) == 55


def test_a_denoisers_repository_need_not_be_a_whole_pipeline(hub_snapshot: Callable[..., Path]) -> None:
    preset = replace(find("pixart-dmd")[1], repository="owner/base", revision=None, denoiser="owner/student@v1")
    assert described("mine", preset) == "mine (to be downloaded)"
    component(hub_snapshot("owner/base") / "vae", "diffusion_pytorch_model.safetensors", 10**6)
    component(hub_snapshot("owner/base") / "transformer", "diffusion_pytorch_model.safetensors", 10**6)
    assert bytes_here(preset) is None
    component(hub_snapshot("owner/student", "v1") / "transformer", "diffusion_pytorch_model.safetensors", 2 * 10**6)
    assert described("mine", preset) == "mine (3 MB, cached)"
