"""Text-to-image classes of diffusers that have no family of their own: used by their seeds alone."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from countgen.backbones.preset import Preset
from countgen.backbones.seeds_only import SeedsOnly

_MORE_THAN_A_PROMPT = ("control", "mask_image", "num_frames", "video", "audio")
_IMAGE_IS_OPTIONAL = tuple(f"{name}Pipeline" for name in "Flux2 FluxKontext GlmImage QwenImage21 ZImageOmni".split())
"""Pipelines that also generate without the image which they take; those that edit fail without."""
logger = logging.getLogger(__name__)


def generates_from_a_prompt(class_name: str) -> bool:
    """Return whether diffusers has a pipeline of this name that makes an image of a prompt and a generator alone."""
    import diffusers

    kind = getattr(diffusers, class_name, None)
    if not (inspect.isclass(kind) and issubclass(kind, diffusers.DiffusionPipeline)):
        return False
    taken = _parameters(kind)
    needed = {name for name, one in taken.items() if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD}
    return (
        {"prompt", "generator"} <= taken.keys()
        and needed <= {"self", "prompt"}
        and not any(name.startswith(_MORE_THAN_A_PROMPT) for name in taken)
        and ("image" not in taken or class_name in _IMAGE_IS_OPTIONAL)
    )


def _parameters(kind: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(kind.__call__).parameters


class AnyPipeline(SeedsOnly):
    """A stock pipeline that is called once for each seed.

    Steps, guidance and size are passed on as far as the pipeline takes them; a guidance of 0 is the pipeline's own if
    that is None.
    """

    def __init__(self, pipeline: Any, preset: Preset, name: str, tiny_vae: torch.nn.Module | None = None) -> None:
        super().__init__(pipeline, preset, name, pipeline.device)
        self._takes = _parameters(type(pipeline))
        logger.warning("%s is used by seeds alone: no family reads a %s with gradient", name, type(pipeline).__name__)

    @property
    def sampler(self) -> str:
        """What records call the sampler: the class of the scheduler."""
        return type(getattr(self.pipeline, "scheduler", self.pipeline)).__name__

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the pipeline."""
        dtype: torch.dtype = self.pipeline.dtype
        return dtype

    def check_negative_prompt(self, negative_prompt: str | None) -> None:
        """Raise a ValueError for a negative prompt that the pipeline does not take."""
        if negative_prompt is not None and "negative_prompt" not in self._takes:
            raise ValueError(f"a {type(self.pipeline).__name__} takes no negative prompt; leave it out")

    def images(
        self, prompt: str, negative_prompt: str | None, seeds: Sequence[int], check: Callable[[], object]
    ) -> Tensor:
        """Return the images; a ValueError if the pipeline returns something else, or another size."""
        settings = {name: getattr(self, name) for name in ("num_inference_steps", "guidance_scale", "height", "width")}
        if not self.guidance_scale and "guidance_scale" in self._takes and not self._takes["guidance_scale"].default:
            del settings["guidance_scale"]
        options = {name: value for name, value in settings.items() if name in self._takes}
        if negative_prompt is not None:
            options["negative_prompt"] = negative_prompt
        images = []
        for seed in seeds:
            check()
            generator = torch.Generator().manual_seed(seed)
            output = self.pipeline(prompt=prompt, generator=generator, return_dict=False, **options)[0]
            image = output[0] if isinstance(output, list | tuple) else output
            if getattr(image, "size", None) != (self.width, self.height):
                what = getattr(image, "size", type(image).__name__)
                raise ValueError(
                    f"{self.name} gave {what} for an image of {self.width} x {self.height}; give the size that it makes"
                )
            images.append(pil_to_tensor(image.convert("RGB")).float() / 255)
        return torch.stack(images)

    def move_to(self, device: str | torch.device) -> None:
        """Move the pipeline."""
        self.pipeline.to(device)
        super().move_to(device)


BACKBONE = AnyPipeline
PIPELINE = ""
PRESETS: dict[str, Preset] = {}
