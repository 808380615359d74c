"""Published architectures at full size with random weights, built from their configs: nothing is downloaded."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from countgen import backbones
from countgen.backbones import Backbone, PromptEmbeds
from countgen.benchmarks.speed.components import tiny_vae
from countgen.benchmarks.speed.transformers import flux, flux2, pixart, sana, stable_diffusion_3, z_image
from countgen.benchmarks.speed.unets import Built, stable_diffusion_2, stable_diffusion_xl
from countgen.critics.base import Critic

SIZES = ("full", "tiny")
TIMED = ("sdxl-turbo", "sd-turbo", "pixart-dmd")
"""The one-step models, which are timed by default."""

_RANDOM = ("normal_", "uniform_", "kaiming_uniform_", "xavier_uniform_", "trunc_normal_")
"""Names of the functions that draw weights, of tensors and of torch.nn.init."""
_DRAWN = 2**18
"""Values of a tensor that are drawn on a CPU; the others repeat them."""

_NOISE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "trailing",
    "steps_offset": 1,
}


@dataclass(frozen=True)
class BuiltModel:
    """A backbone with random weights.

    Attributes:
        backbone: as `countgen.backbones.load` would give it, with a tiny decoder; it has no tokenizer.
        encode: runs its text encoders once on a fixed prompt.
        free_encoders: drops them.
    """

    backbone: Backbone
    encode: Callable[[], PromptEmbeds]
    free_encoders: Callable[[], None]


def build(name: str, size: str, device: torch.device, dtype: torch.dtype) -> BuiltModel:
    """Build one of `MODELS` directly on a device, in the precision it runs in."""
    if name not in MODELS or size not in SIZES:
        raise ValueError(f"no {name!r} at size {size!r}; models: {', '.join(MODELS)}; sizes: {', '.join(SIZES)}")
    import diffusers

    make, class_name, options = MODELS[name]
    tiny = size == "tiny"
    # Made outside: schedulers keep their tables on the CPU, in float32.
    scheduler = getattr(diffusers, class_name)(**options)
    with _born(device, dtype):
        return _finish(name, tiny, *make(tiny, device, scheduler))


def models_of(parser: ArgumentParser, names: str) -> list[str]:
    """Those of a list with commas; leaves with a message where one is unknown."""
    found = names.split(",")
    if unknown := [name for name in found if name not in MODELS]:
        parser.error(f"no model {', '.join(map(repr, unknown))}; available: {', '.join(MODELS)}")
    return found


def device_of(parser: ArgumentParser, name: str) -> torch.device:
    """A device that is there; leaves with a message where it is not."""
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        parser.error(f"no device {name!r} here: {str(error).splitlines()[0][:120]}")
    return torch.device(name)


def build_critic(
    size: str, device: torch.device, image_size: int | None = None, *, letter: str | None = None
) -> Critic:
    """YOLO11m at 640 pixels, or YOLO11n at 64, with random weights; it knows "apple".

    Args:
        letter: of another size of network.
    """
    from countgen.critics.detectors.yolo import YoloCritic
    from countgen.critics.ultralytics_files import import_ultralytics

    import_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    usual, side = ("n", 64) if size == "tiny" else ("m", 640)
    letter = letter or usual
    names = ("apple", *(f"class {index}" for index in range(1, 80)))
    model = DetectionModel(f"yolo11{letter}.yaml", nc=len(names), verbose=False)
    return YoloCritic(model.float().to(device), names, name=f"yolo11{letter}", image_size=image_size or side)


class _Repeated(TorchFunctionMode):
    """Initialisation of large tensors that draws their first rows and repeats them, which a CPU does far faster."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensor = kwargs.get("tensor", args[0] if args else None)
        if getattr(func, "__name__", "") not in _RANDOM or not isinstance(tensor, torch.Tensor):
            return func(*args, **kwargs)
        drawn = max(1, _DRAWN // max(1, tensor[:1].numel())) if tensor.dim() > 1 else len(tensor)
        first = tensor.detach()[:drawn]
        func(*((first, *args[1:]) if args else ()), **(kwargs | ({"tensor": first} if "tensor" in kwargs else {})))
        for start in range(drawn, len(tensor), drawn):
            rest = tensor.detach()[start : start + drawn]
            rest.copy_(first[: len(rest)])
        return tensor


@contextmanager
def _born(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device), _Repeated() if device.type == "cpu" else nullcontext():
            yield
    finally:
        torch.set_default_dtype(before)


def _finish(name: str, tiny: bool, pipeline: Any, encode: Callable[[], PromptEmbeds]) -> BuiltModel:
    family, preset = backbones.presets()[name]
    if tiny:
        preset = replace(preset, height=64, width=64)
    module = __import__(f"countgen.backbones.{family}", fromlist=["BACKBONE"])
    channels = pipeline.vae.config.latent_channels
    draft = None if preset.tiny_vae is None else tiny_vae(tiny, channels)
    backbone: Backbone = module.BACKBONE(pipeline, preset, name, draft)

    def encode_as_asked() -> PromptEmbeds:
        embeds = encode()
        # What the empty prompt's embeddings hold changes no time and no size.
        return with_negative(embeds) if backbone._guided else embeds

    def free_encoders() -> None:
        for part in list(pipeline.components):
            if part.startswith("text_encoder"):
                setattr(pipeline, part, None)

    return BuiltModel(backbone, encode_as_asked, free_encoders)


def with_negative(embeds: PromptEmbeds) -> PromptEmbeds:
    """The prompt with itself as the empty prompt."""
    return replace(
        embeds,
        negative_prompt_embeds=embeds.prompt_embeds,
        negative_pooled_prompt_embeds=embeds.pooled_prompt_embeds,
        negative_attention_mask=embeds.attention_mask,
    )


_EULER = ("EulerDiscreteScheduler", _NOISE)
_FLOW: dict[str, Any] = {"shift": 3.0}
_SOLVER = ("DPMSolverMultistepScheduler", {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"})
MODELS: dict[str, tuple[Callable[[bool, torch.device, Any], Built], str, dict[str, Any]]] = {
    "sdxl-turbo": (stable_diffusion_xl, "EulerAncestralDiscreteScheduler", _NOISE),
    "hyper-sdxl": (stable_diffusion_xl, "LCMScheduler", _NOISE),
    "sdxl-base": (stable_diffusion_xl, *_EULER),
    "sd-turbo": (stable_diffusion_2, *_EULER),
    "sd-2.1": (stable_diffusion_2, "DPMSolverMultistepScheduler", _NOISE),
    "pixart-dmd": (pixart, "DDPMScheduler", {"beta_start": 1e-4, "beta_end": 0.02, "clip_sample": False}),
    "pixart-alpha": (pixart, *_SOLVER),
    "pixart-sigma": (partial(pixart, sigma=True), *_SOLVER),
    "flux-schnell": (flux, "FlowMatchEulerDiscreteScheduler", {}),
    "sd-3-medium": (stable_diffusion_3, "FlowMatchEulerDiscreteScheduler", _FLOW),
    "sd-3.5-turbo": (partial(stable_diffusion_3, large=True), "FlowMatchEulerDiscreteScheduler", _FLOW),
    "sana-sprint": (sana, "SCMScheduler", {}),
    "sana-sprint-1.6b": (partial(sana, large=True), "SCMScheduler", {}),
    "z-image-turbo": (z_image, "FlowMatchEulerDiscreteScheduler", _FLOW),
    "flux2-klein": (flux2, "FlowMatchEulerDiscreteScheduler", {**_FLOW, "use_dynamic_shifting": True}),
}
"""What builds each, and its scheduler."""
