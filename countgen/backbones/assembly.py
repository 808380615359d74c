"""Load a backbone, or take the pipeline that the user loaded."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from countgen.backbones import loading
from countgen.backbones.base import MEMORY, Backbone
from countgen.backbones.lora import Lora, add_loras
from countgen.backbones.low_memory import retry_with_low_memory
from countgen.backbones.model_files import public_name, readable
from countgen.backbones.pipeline_features import check_features, unwrapped
from countgen.backbones.registry import check_fields, module_of, presets
from countgen.backbones.sampling import sampling
from countgen.backbones.sources import ANY_PIPELINE, Source, family_of, find_source, generic_preset, of_family
from countgen.backbones.trial import check_sampling
from countgen.files.hub import check_answers
from countgen.plugins import check_name

OF_A_PIPELINE = ("num_inference_steps", "guidance_scale", "height", "width", "scheduler", "timesteps", "tiny_vae")
"""Fields of a preset that can be given with a pipeline that is loaded already."""


def load(
    model: str | os.PathLike[str] | Source,
    *,
    repository: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    draft: bool = False,
    memory: str = "fast",
    loras: Sequence[Lora] = (),
    download: bool = True,
    **changes: Any,
) -> Backbone:
    """Load a backbone, safetensors only, from the hub's cache, the hub, a local folder or a single file.

    Args:
        model: a preset, for example "miniature" or "sdxl-turbo", OWNER/NAME on the hub, the folder of a diffusers
            pipeline or a `.safetensors` file; or what `find_source` returned for one of these.
        repository: with a preset: what to load in its place and sample as it is sampled, for example a fine-tune; its
            variant and revision are the default ones unless they are given.
        device: device of the backbone.
        dtype: dtype of the weights; by default float32 on a CPU, and the preset's on other devices.
        draft: also load the preset's tiny decoder, for fast drafts during optimisation.
        memory: "fast" or "low"; "low" recomputes activations in the backward pass instead of keeping them, and keeps
            the text encoders on the CPU while they are not used.
        loras: adapters to load, with their weights.
        download: fetch from the hub what its cache does not hold; otherwise a missing file is an OSError.
        **changes: fields of `Preset` to replace, for example `num_inference_steps=4` or `revision=`.

    Raises:
        ValueError: an unknown preset, field, scheduler or `memory`, impossible steps or size, an unsupported family, or
            a single file of a family that diffusers cannot read from one.
        OSError: the repository is neither in the cache nor reachable (from diffusers).
    """
    check_name("memory", memory, MEMORY)
    source = model
    if not isinstance(source, Source):
        source = find_source(source, repository=repository, download=download, **changes)
    module = module_of(source.family)
    device = torch.device(device)
    if hasattr(module, "load"):
        if loras:
            raise ValueError(f"{source.name} takes no LoRA here; the server loads them")
        return module.load(source.preset, source.name, device)
    dtype = dtype or (torch.float32 if device.type == "cpu" else source.preset.dtype)
    repository = source.preset.repository
    if download and not Path(repository).exists() and not loading.cached_weights(source.preset):
        check_answers(f"all of {repository}", repository, source.preset.revision)
    tiny_vae = loading.load_tiny_vae(source.preset, dtype, download=download) if draft else None
    class_name = source.class_name or module.PIPELINE
    with readable(f"{repository} cannot be loaded as a {class_name}"):
        pipeline = loading.load_pipeline(class_name, source.preset, dtype, download=download)
    add_loras(pipeline, loras, download=download)
    _, usual = presets().get(source.name, (None, None))
    if usual is None or usual.repository != repository:
        usual = None
        _widen_vae(pipeline)  # a preset's own VAE was chosen for its dtype
    with readable(f"{source.name} cannot be sampled on {device}"):
        backbone: Backbone = module.BACKBONE(pipeline, source.preset, source.name, tiny_vae)
        backbone.loras = tuple(loras)
        backbone.chosen = source.chosen
        if memory == "low":
            backbone.save_memory()
        retry_with_low_memory(backbone, lambda: backbone.move_to(device))
    if not backbone.seeds_only and (usual is None or source.preset.scheduler != usual.scheduler):
        check_sampling(backbone)
    return backbone


def from_pipeline(pipeline: Any, *, draft: bool = False, memory: str = "fast", **changes: Any) -> Backbone:
    """Return a backbone of a diffusers pipeline that is loaded already, on its device and in its dtype.

    Its modules are shared, and set to `eval()` and `requires_grad_(False)`; the pipeline object, its scheduler and its
    tokenizers stay as they are. `memory` "low" moves the shared text encoders to the CPU and turns gradient
    checkpointing and VAE slicing on.

    Args:
        pipeline: of a class that a family reads.
        draft, memory: as of `load`.
        **changes: of `OF_A_PIPELINE`; steps and guidance are chosen as `countgen.backbones.sampling` says.

    Raises:
        ValueError: another class, or a feature that gradients cannot pass, by name.
    """
    check_name("memory", memory, MEMORY)
    for field in changes:
        check_name("option of a loaded pipeline", field, OF_A_PIPELINE)
    check_fields(changes)
    family = family_of(type(pipeline).__name__)
    if family != ANY_PIPELINE:
        check_features(pipeline)
    own = copy.copy(pipeline)
    for name, component in pipeline.components.items():
        if isinstance(component, torch.nn.Module) and unwrapped(component) is not component:
            setattr(own, name, unwrapped(component))
    scheduler = copy.deepcopy(getattr(pipeline, "scheduler", None))
    if scheduler is not None:
        own.scheduler = scheduler
    _widen_vae(own)
    denoiser: Any = getattr(own, "unet", None) or getattr(own, "transformer", None)
    repository = str(own.config.get("_name_or_path") or type(pipeline).__name__)
    configs = {
        "pipeline": own.config,
        "denoiser": getattr(denoiser, "config", {}),
        "vae": getattr(getattr(own, "vae", None), "config", {}),
        "scheduler": {**getattr(scheduler, "config", {}), "_class_name": type(scheduler).__name__},
    }
    name = public_name(repository)
    usual, chosen = sampling(type(pipeline).__name__, configs, (repository, name), of_family(family))
    preset = generic_preset(family, type(pipeline).__name__, repository, usual | changes)
    loading.replace_scheduler(own, preset)
    tiny_vae = loading.load_tiny_vae(preset, denoiser.dtype).to(denoiser.device) if draft else None
    backbone: Backbone = module_of(family).BACKBONE(own, preset, name, tiny_vae)
    backbone.given = True
    backbone.chosen = chosen
    if memory == "low":
        backbone.save_memory()
    if preset.scheduler is not None and not backbone.seeds_only:
        check_sampling(backbone)
    return backbone


def _widen_vae(pipeline: Any) -> None:
    """Decode SDXL's latents in float32 where its VAE overflows in float16, as the stock pipeline does.

    The stock pipeline widens the weights for the decoding and rounds them again; with a gradient they must stay.
    """
    vae: Any = getattr(pipeline, "vae", None)
    if (
        type(pipeline).__name__ == "StableDiffusionXLPipeline"
        and vae.dtype == torch.float16
        and vae.config.force_upcast
    ):
        pipeline.vae = copy.deepcopy(vae).float()
