"""Loading of published weights, safetensors only, from the hub's cache, the hub, a folder or a single file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants
from safetensors.torch import load_file

from countgen.backbones.model_files import readable, weight_files
from countgen.backbones.preset import Preset
from countgen.files.hub import SINGLE_FILE, at_revision, is_commit, resolve
from countgen.files.model_folder import check_model_folder, read_json

_WEIGHTS = ("config.json", f"*{SINGLE_FILE}", f"*{SINGLE_FILE}.index.json")


def load_pipeline(class_name: str, preset: Preset, dtype: torch.dtype, *, download: bool = True) -> Any:
    """Load the stock diffusers pipeline of a preset, with the components that the preset replaces.

    Args:
        class_name: of diffusers.
        preset: what to load.
        dtype: of all its parts.
        download: fetch from the hub what its cache does not hold.

    Raises:
        ValueError: the folder is not safe to read, or a single file of a family whose single files diffusers does not
            read; also whatever the libraries raise for damaged weights, see `readable`.
        OSError: the hub cannot be reached, or has no such repository.
    """
    import diffusers  # takes seconds, and what only counts does not need it

    pipeline_class = getattr(diffusers, class_name)
    offline = not download or constants.HF_HUB_OFFLINE  # otherwise diffusers warns that the hub is not there
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "trust_remote_code": False}
    parts: dict[str, Any] = {}
    if preset.vae is not None and (dtype == torch.float16 or Path(preset.vae).is_dir()):
        parts["vae"] = _load_vae(diffusers.AutoencoderKL, preset.vae, dtype, download)
    if preset.denoiser is not None:
        parts |= _load_denoiser(pipeline_class, preset, dtype, download)
    if preset.repository.endswith(SINGLE_FILE):
        if not hasattr(pipeline_class, "from_single_file"):
            raise ValueError(
                f"{class_name} cannot be loaded from a single file such as {preset.repository}; give a repository or a "
                "folder, or only the transformer as denoiser="
            )
        if preset.config is not None and Path(preset.config).is_dir():
            check_model_folder(Path(preset.config))
        pipeline = pipeline_class.from_single_file(
            preset.repository, config=preset.config, dtype=dtype, local_files_only=offline, **parts
        )
    else:
        folder = Path(preset.repository)
        if not folder.is_dir():
            places = {"revision": preset.revision, "variant": preset.variant, "local_files_only": offline}
            folder = Path(pipeline_class.download(preset.repository, **places, **options, **parts))
        check_model_folder(folder)
        pipeline = pipeline_class.from_pretrained(folder, variant=preset.variant, **options, **parts)
    replace_scheduler(pipeline, preset)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def replace_scheduler(pipeline: Any, preset: Preset) -> None:
    """Give a pipeline the scheduler that the preset names, if it names one.

    Raises:
        ValueError: it does not fit.
    """
    import diffusers

    if preset.scheduler is not None:
        scheduler = getattr(diffusers, preset.scheduler)
        with readable(f"{preset.scheduler} does not fit a {type(pipeline).__name__}"):
            pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, **dict(preset.scheduler_options))


def _load_vae(vae_class: Any, name: str, dtype: torch.dtype, download: bool) -> Any:
    repository, revision = at_revision(name)
    folder = resolve(repository, _WEIGHTS, revision=revision, download=download)
    check_model_folder(folder)
    return vae_class.from_pretrained(folder, dtype=dtype, use_safetensors=True)


def hub_sources(preset: Preset, dtype: torch.dtype) -> tuple[str, ...]:
    """What of the hub `load_pipeline` reads, each with its revision; nothing that is on the disk by its own path."""
    if preset.remote:
        return ()
    config = preset.config if preset.repository.endswith(SINGLE_FILE) else None
    parts = (config, preset.vae if dtype == torch.float16 else None, preset.denoiser)
    sources = [(preset.repository, preset.revision), *(at_revision(part) for part in parts if part is not None)]
    return tuple(
        f"{name} at {'commit' if is_commit(revision) else 'the branch'} {revision or 'main'}"
        for name, revision in sources
        if not Path(name).exists()
    )


def load_tiny_vae(preset: Preset, dtype: torch.dtype, *, download: bool = True) -> torch.nn.Module:
    """Load the tiny decoder for drafts.

    Raises:
        ValueError: the preset names none.
    """
    import diffusers

    if preset.tiny_vae is None:
        raise ValueError(
            f"{preset.repository} has no tiny decoder; give the repository of an AutoencoderTiny as tiny_vae=, or "
            "leave draft out"
        )

    tiny_vae: torch.nn.Module = _load_vae(diffusers.AutoencoderTiny, preset.tiny_vae, dtype, download)
    return tiny_vae


def cached_weights(preset: Preset) -> list[Path]:
    """Return the weight files of a preset's repository on this machine; none if nothing was downloaded."""
    try:
        return weight_files(resolve(preset.repository, ["*"], revision=preset.revision, download=False))
    except OSError:
        return []


def described(name: str, preset: Preset) -> str:
    """Return a model's name with the size of its weights on this machine, or that they are downloaded first.

    >>> from countgen.backbones.registry import find
    >>> described("miniature", find("miniature")[1])
    'miniature (18 MB)'
    """
    if preset.remote:
        return f"{name} (on a server)"
    size = sum(file.stat().st_size for file in cached_weights(preset))
    amount = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
    return f"{name} ({amount})" if size else f"{name} (to be downloaded)"


def _load_denoiser(
    pipeline_class: Any, preset: Preset, dtype: torch.dtype, download: bool = True
) -> dict[str, torch.nn.Module]:
    """Load the replacement of the denoiser, under the name of the pipeline's component."""
    assert preset.denoiser is not None
    parts: dict[str, Any] = pipeline_class.__init__.__annotations__
    part = "unet" if "unet" in parts else "transformer"
    denoiser_class = parts[part]
    name, revision = at_revision(preset.denoiser)
    folder = resolve(name, [f"{part}/{file}" for file in _WEIGHTS], revision=revision, download=download)
    if not name.endswith(SINGLE_FILE):
        check_model_folder(folder / part)
        try:
            denoiser = denoiser_class.from_pretrained(folder, subfolder=part, dtype=dtype, use_safetensors=True)
        except OSError as error:
            raise OSError(
                f"no safetensors weights of {name} could be read ({error}); if its authors published only a pickle, "
                f"convert it once and give the folder as denoiser=, see docs/add-a-backbone.md"
            ) from error
        return {part: denoiser}
    source, revision = preset.repository, preset.revision
    if source.endswith(SINGLE_FILE) and preset.config:
        source, revision = preset.config, None
    configs = resolve(source, [f"{part}/config.json"], revision=revision, download=download)
    check_model_folder(configs / part)
    denoiser = denoiser_class.from_config(read_json(configs / part / "config.json")).to(dtype)
    denoiser.load_state_dict(load_file(folder))
    return {part: denoiser}
