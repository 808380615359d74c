"""Loading of published weights, safetensors only, from the hub's cache, the hub, a folder or a single file."""

from __future__ import annotations

import difflib
import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from countgen.backbones.preset import Preset

SINGLE_FILE = ".safetensors"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def load_pipeline(class_name: str, preset: Preset, dtype: torch.dtype, *, download: bool = True) -> Any:
    """Load the stock diffusers pipeline of a preset, with the components that the preset replaces.

    Args:
        class_name: of diffusers.
        preset: what to load.
        dtype: of all its parts.
        download: fetch from the hub what its cache does not hold.

    Raises:
        ValueError: the repository holds no pipeline, its weights are damaged, or it is a single file of a family whose
            single files diffusers does not read.
        OSError: the hub cannot be reached, or has no such repository.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError

    _check_repository(preset.repository)
    try:
        # Asked offline without `local_files_only`, diffusers tries the hub and warns that it is not there.
        return _assembled(class_name, preset, dtype, download and not constants.HF_HUB_OFFLINE)
    except SafetensorError as error:
        raise ValueError(f"the weights in {preset.repository} are damaged or incomplete: {error}") from error
    except OSError as error:
        if not isinstance(error, LocalEntryNotFoundError) and "stacktrace above" not in str(error):
            raise
        raise OSError(
            f"{preset.repository} is not complete in the hub's cache and could not be downloaded; check the name, the "
            "network and the variable HF_HUB_OFFLINE, or give a folder as the repository"
        ) from error


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form OWNER/NAME."""
    return _HUB_ID.fullmatch(name) is not None and not name.endswith(SINGLE_FILE)


def _check_repository(name: str) -> None:
    """Check that a repository is a pipeline folder, a single file, or has the form of a hub id.

    Raises:
        ValueError: it is none of these; the message says what a repository can be.
    """
    path = Path(name)
    if (name.endswith(SINGLE_FILE) and (path.is_file() or "://" in name)) or (path / "model_index.json").is_file():
        return
    if path.is_dir():
        wrong = "is a folder without a model_index.json"
    elif path.exists():
        wrong = f"is not a {SINGLE_FILE} file"
    elif not is_hub_id(name):
        wrong = "does not exist"
    else:
        return
    raise ValueError(
        f"the repository {name} {wrong}; give the folder of a diffusers pipeline, a {SINGLE_FILE} file, or OWNER/NAME "
        "on the hub"
    )


def _assembled(class_name: str, preset: Preset, dtype: torch.dtype, download: bool) -> Any:
    import diffusers

    pipeline_class = getattr(diffusers, class_name)
    parts: dict[str, Any] = {}
    if preset.vae is not None and (dtype == torch.float16 or Path(preset.vae).is_dir()):
        repository, revision = at_revision(preset.vae)
        parts["vae"] = diffusers.AutoencoderKL.from_pretrained(
            repository, revision=revision, dtype=dtype, use_safetensors=True, local_files_only=not download
        )
    if preset.denoiser is not None:
        parts |= _load_denoiser(pipeline_class, preset, dtype, download)
    if preset.repository.endswith(SINGLE_FILE):
        if not hasattr(pipeline_class, "from_single_file"):
            raise ValueError(
                f"{class_name} cannot be loaded from a single file such as {preset.repository}; give a repository or a "
                "folder, or only the transformer as denoiser="
            )
        pipeline = pipeline_class.from_single_file(
            preset.repository, config=preset.config, dtype=dtype, local_files_only=not download, **parts
        )
    else:
        pipeline = pipeline_class.from_pretrained(
            preset.repository,
            revision=preset.revision,
            variant=preset.variant,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=not download,
            **parts,
        )
    if preset.scheduler is not None:
        scheduler = getattr(diffusers, preset.scheduler)
        pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, **dict(preset.scheduler_options))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def hub_sources(preset: Preset, dtype: torch.dtype) -> tuple[str, ...]:
    """What of the hub `load_pipeline` reads, each with its revision; nothing that is on the disk by its own path."""
    sources = [(preset.repository, preset.revision)]
    if preset.repository.endswith(SINGLE_FILE) and preset.config:
        sources.append((preset.config, None))
    if preset.vae is not None and dtype == torch.float16:
        sources.append(at_revision(preset.vae))
    if preset.denoiser is not None:
        sources.append(at_revision(preset.denoiser))
    return tuple(
        f"{name} at {'commit' if is_commit(revision) else 'the branch'} {revision or 'main'}"
        for name, revision in sources
        if not Path(name).exists()
    )


def is_commit(revision: str | None) -> bool:
    """Whether a revision names one state of a repository for ever."""
    return revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def check_scheduler(name: str) -> None:
    """Check that diffusers has a scheduler of this name.

    Raises:
        ValueError: it has none; the message lists similar names.
    """
    import diffusers

    known = [word for word in dir(diffusers) if word.endswith("Scheduler")]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        raise ValueError(f"diffusers has no scheduler {name!r}; similar names: {', '.join(near) or 'none'}")


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
    repository, revision = at_revision(preset.tiny_vae)
    tiny_vae: torch.nn.Module = diffusers.AutoencoderTiny.from_pretrained(
        repository, revision=revision, dtype=dtype, use_safetensors=True, local_files_only=not download
    )
    return tiny_vae


def at_revision(name: str) -> tuple[str, str | None]:
    """Split a hub id, or a file in it, from the revision after its @; an existing path is returned unchanged."""
    if "@" not in name or Path(name).exists():
        return name, None
    repository, _, revision = name.rpartition("@")
    return repository, revision


def digest(path: Path) -> str:
    """Return a SHA-256 of the size and the beginning of every weight file; hashing whole files would take seconds."""
    found = hashlib.sha256()
    for file in sorted(path.rglob(f"*{SINGLE_FILE}")) if path.is_dir() else [path]:
        found.update(str(file.stat().st_size).encode())
        with file.open("rb") as opened:
            found.update(opened.read(2**20))
    return found.hexdigest()


def public_name(repository: str) -> str:
    """Return a repository's name without the path of a local folder or file."""
    return Path(repository).resolve().name if Path(repository).exists() else repository


def _load_denoiser(
    pipeline_class: Any, preset: Preset, dtype: torch.dtype, download: bool = True
) -> dict[str, torch.nn.Module]:
    """Load the replacement of the denoiser, under the name of the pipeline's component.

    Raises:
        OSError: it was not found, or is not published as safetensors.
    """
    assert preset.denoiser is not None
    parts: dict[str, Any] = pipeline_class.__init__.__annotations__
    part = "unet" if "unet" in parts else "transformer"
    denoiser_class = parts[part]
    name, revision = at_revision(preset.denoiser)
    if not name.endswith(SINGLE_FILE):
        try:
            denoiser = denoiser_class.from_pretrained(
                name,
                subfolder=part,
                revision=revision,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=not download,
            )
        except OSError as error:
            raise OSError(
                f"no safetensors weights of {name} could be read ({error}); if its authors published only a pickle, "
                f"convert it once and give the folder as denoiser=, see docs/add-a-backbone.md"
            ) from error
        return {part: denoiser}
    from safetensors.torch import load_file

    single = preset.repository.endswith(SINGLE_FILE)
    source = preset.config or preset.repository if single else preset.repository
    config = denoiser_class.load_config(
        source, subfolder=part, revision=None if single else preset.revision, local_files_only=not download
    )
    denoiser = denoiser_class.from_config(config).to(dtype)
    denoiser.load_state_dict(load_file(_local(name, revision, download)))
    return {part: denoiser}


def _local(file: str, revision: str | None, download: bool) -> Path:
    """Return the path of a local file, or of OWNER/NAME/FILE in the hub's cache, downloaded if necessary."""
    if Path(file).exists() or file.count("/") < 2:
        return Path(file)
    from huggingface_hub import hf_hub_download

    owner, name, inside = file.split("/", 2)
    return Path(hf_hub_download(f"{owner}/{name}", inside, revision=revision, local_files_only=not download))
