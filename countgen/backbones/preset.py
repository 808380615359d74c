"""A checkpoint and its sampling settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

MAX_GUIDANCE = 1000

TAESD = "madebyollin/taesd@614f76814bbe30edbe2e627ace1c2234c81a2c0e"
TAESDXL = "madebyollin/taesdxl@b20258aaef75ef61e659c1e0f14f251cf0ad153e"
TAEF1 = "madebyollin/taef1@b1b2d00e9e440cfbf3dedb34266864da86016ceb"
"""Tiny decoders that several families share, for the latents of Stable Diffusion 1 and 2, of SDXL and of FLUX.1."""


@dataclass(frozen=True)
class Preset:
    """A published (or embedded) checkpoint and its sampling settings.

    Attributes:
        repository: hub id or local folder.
        num_inference_steps, guidance_scale: the values that the checkpoint's authors recommend.
        height, width: size of the image in pixels.
        licence: licence of the weights, in words for the user.
        revision: commit or branch of the repository; None for its main branch.
        variant: weight variant in the repository, for example "fp16".
        config: repository of the configs and tokenizers, if `repository` is a single file.
        denoiser: replacement of the repository's U-Net or transformer: a hub id or folder that has it, or one
            safetensors file, local or as OWNER/NAME/FILE on the hub. Here and for the decoders below, @REVISION
            after a hub id names a commit or branch.
        vae: repository of a replacement VAE, if the original overflows in float16; a local folder is used with every
            dtype.
        dtype: default dtype on a device other than a CPU.
        max_sequence_length: number of prompt tokens, if it differs from the stock pipeline's default.
        timesteps: explicit timesteps, if the checkpoint was not trained for the scheduler's spacing.
        tiny_vae: repository of an `AutoencoderTiny` for the same latents, which `render(draft=True)` decodes with.
        scheduler: class name of a diffusers scheduler that replaces the repository's.
        scheduler_options: configuration values of that scheduler.
        remote: whether a server holds the weights, and nothing is read here.
        least_steps: smallest number of steps.

    Raises:
        ValueError: the number of steps, the size or the guidance is not possible, or the number of timesteps differs
            from that of the steps.
    """

    remote: ClassVar[bool] = False
    least_steps: ClassVar[int] = 1

    repository: str
    num_inference_steps: int
    guidance_scale: float
    height: int
    width: int
    licence: str
    revision: str | None = None
    variant: str | None = None
    config: str | None = None
    denoiser: str | None = None
    vae: str | None = None
    dtype: torch.dtype = torch.float16
    max_sequence_length: int | None = None
    tiny_vae: str | None = None
    timesteps: tuple[int, ...] | None = None
    scheduler: str | None = None
    scheduler_options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for name, least in {"num_inference_steps": self.least_steps, "height": 1, "width": 1}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        guidance = self.guidance_scale
        if not isinstance(guidance, int | float) or not 0 <= guidance <= MAX_GUIDANCE:
            raise ValueError(
                f"guidance_scale must be a number of at least 0 (0 or 1: no guidance) and at most {MAX_GUIDANCE}, got "
                f"{repr(guidance)[:40]}"
            )
        if self.timesteps is not None and len(self.timesteps) != self.num_inference_steps:
            raise ValueError(
                f"{len(self.timesteps)} timesteps were given for {self.num_inference_steps} steps; give as many, or "
                "timesteps=None for the scheduler's own"
            )
