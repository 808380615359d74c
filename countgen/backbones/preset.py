"""A checkpoint, and how it is meant to be sampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

MAX_GUIDANCE = 1000

TAESD = "madebyollin/taesd@614f76814bbe30edbe2e627ace1c2234c81a2c0e"
TAESDXL = "madebyollin/taesdxl@b20258aaef75ef61e659c1e0f14f251cf0ad153e"
"""Tiny decoders for the latents of SD 1 and 2 and of SDXL, which other families share."""


@dataclass(frozen=True)
class Preset:
    """A published (or embedded) checkpoint and how it is meant to be sampled.

    Attributes:
        repository: hub id or local folder.
        num_inference_steps, guidance_scale: as the checkpoint's authors use it.
        height, width: pixels.
        licence: of the weights, in words for the user.
        revision: commit or branch of the repository; None for its main branch.
        variant: weight variant in the repository, for example "fp16".
        config: for a repository that is a single file: where its configs and tokenizers are.
        denoiser: replacement of the repository's U-Net or transformer: a hub id or folder that has it, or one
            safetensors file, local or as OWNER/NAME/FILE on the hub. Here and for the decoders below, @REVISION
            after a hub id names a commit or branch.
        vae: repository of a replacement VAE, where the original overflows in float16.
        dtype: where no other is asked for and the device is not a CPU.
        max_sequence_length: tokens of the prompt, where that differs from the stock pipeline's default.
        timesteps: explicit timesteps, where the scheduler's spacing is not what the checkpoint was made for.
        tiny_vae: repository of an `AutoencoderTiny` for the same latents, which `render(draft=True)` decodes with.
        scheduler: class name of a diffusers scheduler that replaces the repository's.
        scheduler_options: what that scheduler is configured with.

    Raises:
        ValueError: a number of steps, a size or a guidance that no picture can have, or timesteps of another number.
    """

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
        for name in ("num_inference_steps", "height", "width"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number from 1 on, got {value!r}")
        guidance = self.guidance_scale
        if not isinstance(guidance, int | float) or not 0 <= guidance <= MAX_GUIDANCE:
            raise ValueError(
                f"guidance_scale must be a number from 0 on (0 or 1: no guidance) and at most {MAX_GUIDANCE}, got "
                f"{repr(guidance)[:40]}"
            )
        if self.timesteps is not None and len(self.timesteps) != self.num_inference_steps:
            raise ValueError(
                f"{len(self.timesteps)} timesteps were given for {self.num_inference_steps} steps; give as many, or "
                "timesteps=None for the scheduler's own"
            )
