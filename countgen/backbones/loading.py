"""Read published weights, safetensors only, from the hub's cache, the hub, a folder or a single file."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from countgen.backbones.preset import Preset

SINGLE_FILE = ".safetensors"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def load_pipeline(class_name: str, preset: Preset, dtype: torch.dtype) -> Any:
    """The stock diffusers pipeline of a preset, with the parts replaced that the preset replaces.

    Raises:
        ValueError: the repository is nothing that holds a pipeline, or a single file, and diffusers reads none of this
            family; or its weights are damaged.
        OSError: the hub is out of reach, or has no such repository.
    """
    _check_repository(preset.repository)
    try:
        return _assembled(class_name, preset, dtype)
    except SafetensorError as error:
        raise ValueError(f"the weights in {preset.repository} are damaged or cut short: {error}") from error
    except OSError as error:
        if "stacktrace above" not in str(error):
            raise
        raise OSError(
            f"{preset.repository} is not whole in the hub's cache, and the hub does not give it; check the name, the "
            "network and the variable HF_HUB_OFFLINE, or give a folder as the repository"
        ) from error


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form OWNER/NAME."""
    return _HUB_ID.fullmatch(name) is not None and not name.endswith(SINGLE_FILE)


def _check_repository(name: str) -> None:
    """Refuse what is there and no pipeline, and what can be nowhere.

    Raises:
        ValueError: it says what a repository is.
    """
    path = Path(name)
    if (name.endswith(SINGLE_FILE) and (path.is_file() or "://" in name)) or (path / "model_index.json").is_file():
        return
    if path.is_dir():
        wrong = "is a folder without a model_index.json"
    elif path.exists():
        wrong = f"is no {SINGLE_FILE} file"
    elif not is_hub_id(name):
        wrong = "is not there"
    else:
        return
    raise ValueError(
        f"the repository {name} {wrong}; give the folder of a diffusers pipeline, a {SINGLE_FILE} file, or OWNER/NAME "
        "on the hub"
    )


def _assembled(class_name: str, preset: Preset, dtype: torch.dtype) -> Any:
    import diffusers

    pipeline_class = getattr(diffusers, class_name)
    parts: dict[str, Any] = {}
    if preset.vae is not None and dtype == torch.float16:
        repository, revision = at_revision(preset.vae)
        parts["vae"] = diffusers.AutoencoderKL.from_pretrained(
            repository, revision=revision, dtype=dtype, use_safetensors=True
        )
    if preset.denoiser is not None:
        parts |= _load_denoiser(pipeline_class, preset, dtype)
    if preset.repository.endswith(SINGLE_FILE):
        if not hasattr(pipeline_class, "from_single_file"):
            raise ValueError(
                f"{class_name} is not read from a single file such as {preset.repository}; give a repository or a "
                "folder, or the transformer alone as denoiser="
            )
        pipeline = pipeline_class.from_single_file(preset.repository, config=preset.config, dtype=dtype, **parts)
    else:
        pipeline = pipeline_class.from_pretrained(
            preset.repository,
            revision=preset.revision,
            variant=preset.variant,
            dtype=dtype,
            use_safetensors=True,
            **parts,
        )
    if preset.scheduler is not None:
        scheduler = getattr(diffusers, preset.scheduler)
        pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, **dict(preset.scheduler_options))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def check_scheduler(name: str) -> None:
    """Refuse what is no scheduler of diffusers.

    Raises:
        ValueError: near names are listed.
    """
    import diffusers

    known = [word for word in dir(diffusers) if word.endswith("Scheduler")]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        raise ValueError(f"diffusers has no scheduler {name!r}; near names: {', '.join(near) or 'none'}")


def load_tiny_vae(preset: Preset, dtype: torch.dtype) -> torch.nn.Module:
    """The decoder for drafts.

    Raises:
        ValueError: the preset names none.
    """
    import diffusers

    if preset.tiny_vae is None:
        raise ValueError(
            f"{preset.repository} has no tiny decoder; give tiny_vae= an AutoencoderTiny, or leave draft out"
        )
    repository, revision = at_revision(preset.tiny_vae)
    tiny_vae: torch.nn.Module = diffusers.AutoencoderTiny.from_pretrained(
        repository, revision=revision, dtype=dtype, use_safetensors=True
    )
    return tiny_vae


def at_revision(name: str) -> tuple[str, str | None]:
    """A hub id, or a file in it, and the revision after its @; a path that is there is left as it is."""
    if "@" not in name or Path(name).exists():
        return name, None
    repository, _, revision = name.rpartition("@")
    return repository, revision


def _load_denoiser(pipeline_class: Any, preset: Preset, dtype: torch.dtype) -> dict[str, torch.nn.Module]:
    """The replacement, under the name that the pipeline has for it.

    Raises:
        OSError: it is nowhere, or not published as safetensors.
    """
    assert preset.denoiser is not None
    parts: dict[str, Any] = pipeline_class.__init__.__annotations__
    part = "unet" if "unet" in parts else "transformer"
    denoiser_class = parts[part]
    name, revision = at_revision(preset.denoiser)
    if not name.endswith(SINGLE_FILE):
        try:
            denoiser = denoiser_class.from_pretrained(
                name, subfolder=part, revision=revision, dtype=dtype, use_safetensors=True
            )
        except OSError as error:
            raise OSError(
                f"no safetensors weights of {name} could be read ({error}); where its authors published a pickle only, "
                f"convert it once and give the folder as denoiser=, see docs/add-a-backbone.md"
            ) from error
        return {part: denoiser}
    from safetensors.torch import load_file

    single = preset.repository.endswith(SINGLE_FILE)
    source = preset.config or preset.repository if single else preset.repository
    config = denoiser_class.load_config(source, subfolder=part, revision=None if single else preset.revision)
    denoiser = denoiser_class.from_config(config).to(dtype)
    denoiser.load_state_dict(load_file(_local(name, revision)))
    return {part: denoiser}


def _local(file: str, revision: str | None) -> Path:
    """A local file as it is; otherwise OWNER/NAME/FILE from the hub's cache or the hub."""
    if Path(file).exists() or file.count("/") < 2:
        return Path(file)
    from huggingface_hub import hf_hub_download

    owner, name, inside = file.split("/", 2)
    return Path(hf_hub_download(f"{owner}/{name}", inside, revision=revision))
