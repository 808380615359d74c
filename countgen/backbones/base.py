"""What a backbone promises: prompt and latents in, a picture with gradient out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


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
        vae: repository of a replacement VAE, where the original overflows in float16.
        timesteps: explicit timesteps, where the scheduler's spacing is not what the checkpoint was made for.
        scheduler: class name of a diffusers scheduler that replaces the repository's.
        scheduler_options: what that scheduler is configured with.
    """

    repository: str
    num_inference_steps: int
    guidance_scale: float
    height: int
    width: int
    licence: str
    revision: str | None = None
    variant: str | None = None
    vae: str | None = None
    timesteps: tuple[int, ...] | None = None
    scheduler: str | None = None
    scheduler_options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class PromptEmbeds:
    """A prompt as the denoiser reads it. Every tensor has the batch first, and may carry gradient.

    Attributes:
        prompt_embeds: (B, L, D).
        pooled_prompt_embeds: (B, P), for models that condition on a pooled vector.
        attention_mask: (B, L), for models that mask padding.
        negative_prompt_embeds, negative_pooled_prompt_embeds, negative_attention_mask: the same for
            the empty prompt; present where guidance is used.
    """

    prompt_embeds: Tensor
    pooled_prompt_embeds: Tensor | None = None
    attention_mask: Tensor | None = None
    negative_prompt_embeds: Tensor | None = None
    negative_pooled_prompt_embeds: Tensor | None = None
    negative_attention_mask: Tensor | None = None

    def expand(self, batch_size: int) -> PromptEmbeds:
        """The same prompt for every latent of a batch; no memory is copied."""
        wide = {
            field.name: value.expand(batch_size, *value.shape[1:])
            for field in fields(self)
            if (value := getattr(self, field.name)) is not None
        }
        return replace(self, **wide)


class Backbone(ABC):
    """A frozen text-to-image pipeline, sampled with gradient.

    Subclasses implement `encode_prompt` and `denoise`; where the family samples by another rule than
    its scheduler's `step`, also `render`.

    Attributes:
        name: what records call this backbone.
        pipeline: the stock diffusers pipeline.
        num_inference_steps, guidance_scale, height, width: how it is sampled.
    """

    def __init__(self, pipeline: Any, preset: Preset, name: str) -> None:
        self.name = name
        self.preset = preset
        self.pipeline = pipeline
        self.num_inference_steps = preset.num_inference_steps
        self.guidance_scale = preset.guidance_scale
        self.height = preset.height
        self.width = preset.width
        for component in pipeline.components.values():
            if isinstance(component, torch.nn.Module):
                component.eval().requires_grad_(False)

    @property
    @abstractmethod
    def denoiser(self) -> torch.nn.Module:
        """The U-Net or transformer."""

    @property
    def device(self) -> torch.device:
        """Where the denoiser is."""
        return next(self.denoiser.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The denoiser's."""
        return next(self.denoiser.parameters()).dtype

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one latent."""
        factor: int = self.pipeline.vae_scale_factor
        return int(self.denoiser.config.in_channels), self.height // factor, self.width // factor  # type: ignore[union-attr]

    @property
    def _guided(self) -> bool:
        return self.guidance_scale > 1

    @abstractmethod
    def encode_prompt(self, prompt: str) -> PromptEmbeds:
        """Embed one prompt, batch of 1, with gradient where the caller's grad mode allows."""

    @abstractmethod
    def denoise(self, latents: Tensor, timestep: Tensor, embeds: PromptEmbeds) -> Tensor:
        """The denoiser's raw output for scaled latents (B, C, h, w), guidance applied."""

    def initial_latents(self, seeds: Sequence[int]) -> Tensor:
        """Standard normal latents, float32 (len(seeds), C, h, w).

        Each seed has a generator of its own on the CPU, as `generator=[...]` of the stock pipelines, so a
        batch equals its singles and every device starts from the same noise.
        """
        return torch.cat([self._latent_of(torch.Generator().manual_seed(seed)) for seed in seeds]).to(self.device)

    def _latent_of(self, generator: torch.Generator) -> Tensor:
        return torch.randn((1, *self.latent_shape), generator=generator)

    def render(self, latents: Tensor, embeds: PromptEmbeds, seeds: Sequence[int] | None = None) -> Tensor:
        """Sample pictures from latents, with gradient to latents and embeds.

        Args:
            latents: standard normal, float (B, C, h, w), as `initial_latents` gives.
            embeds: of one prompt (batch 1), or one per latent.
            seeds: those of the latents; samplers that add noise between steps draw it as the stock pipeline
                would with these seeds. Needed for such samplers at more than one step.

        Returns:
            RGB float32 (B, 3, H, W) in [0, 1], equal to the stock pipeline's `output_type="pt"`. The clamp
            to [0, 1] passes gradient, so an over-exposed pixel can come back.
        """
        scheduler = self.pipeline.scheduler
        embeds = embeds.expand(len(latents))
        if self.preset.timesteps is not None:
            scheduler.set_timesteps(timesteps=list(self.preset.timesteps), device=latents.device)
        else:
            scheduler.set_timesteps(self.num_inference_steps, device=latents.device)
        generators = None
        if seeds is not None:
            generators = [torch.Generator().manual_seed(seed) for seed in seeds]
            for generator in generators:
                self._latent_of(generator)
        sample = (latents * scheduler.init_noise_sigma).to(self.dtype)
        options = self._step_options(generators)
        for timestep in scheduler.timesteps:
            output = self.denoise(scheduler.scale_model_input(sample, timestep), timestep, embeds)
            sample = scheduler.step(output, timestep, sample, **options, return_dict=False)[0]
        return self.decode(sample)

    def _step_options(self, generators: list[torch.Generator] | None) -> dict[str, Any]:
        import inspect

        takes_generator = "generator" in inspect.signature(self.pipeline.scheduler.step).parameters
        return {"generator": generators} if takes_generator and generators is not None else {}

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures from clean latents: RGB float32 (B, 3, H, W) in [0, 1], with gradient through the clamp."""
        vae = self.pipeline.vae
        picture = vae.decode((latents / vae.config.scaling_factor).to(vae.dtype), return_dict=False)[0]
        picture = picture.float() / 2 + 0.5
        return picture + (picture.clamp(0, 1) - picture).detach()
