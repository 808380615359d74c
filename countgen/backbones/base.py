"""What a backbone promises: prompt and latents in, a picture with gradient out."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from countgen.captured import Captures
from countgen.half_precision import GradientScale

DRAWS_NOISE = {
    "DDPMScheduler",
    "EulerAncestralDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "LCMScheduler",
    "TCDScheduler",
}
"""Schedulers that add noise between their steps; a last step adds none."""


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
        tiny_vae: repository of an `AutoencoderTiny` for the same latents, which `render(draft=True)` decodes with.
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
    tiny_vae: str | None = None
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
        return self.map(lambda tensor: tensor.expand(batch_size, *tensor.shape[1:]))

    def map(self, function: Callable[[Tensor], Tensor]) -> PromptEmbeds:
        """The same prompt with every tensor changed."""
        changed = {
            field.name: function(value) for field in fields(self) if (value := getattr(self, field.name)) is not None
        }
        return replace(self, **changed)


class Backbone(ABC):
    """A frozen text-to-image pipeline, sampled with gradient.

    Subclasses implement `encode_prompt` and `denoise`; where the family samples by another rule than
    its scheduler's `step`, also `render`.

    Attributes:
        name: what records call this backbone.
        pipeline: the stock diffusers pipeline.
        num_inference_steps, guidance_scale, height, width: how it is sampled.
    """

    def __init__(self, pipeline: Any, preset: Preset, name: str, tiny_vae: torch.nn.Module | None = None) -> None:
        self.name = name
        self.preset = preset
        self.pipeline = pipeline
        self.tiny_vae = tiny_vae
        self.num_inference_steps = preset.num_inference_steps
        self.guidance_scale = preset.guidance_scale
        self.height = preset.height
        self.width = preset.width
        self.memory = "fast"
        self.captures = Captures()
        self._moved_timesteps: dict[tuple[Any, ...], Tensor] = {}
        for component in (*pipeline.components.values(), tiny_vae):
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
        denoiser: Any = self.denoiser
        return int(denoiser.config.in_channels), self.height // factor, self.width // factor

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

    def render(
        self, latents: Tensor, embeds: PromptEmbeds, seeds: Sequence[int] | None = None, *, draft: bool = False
    ) -> Tensor:
        """Sample pictures from latents, with gradient to latents and embeds.

        Args:
            latents: standard normal, float (B, C, h, w), as `initial_latents` gives.
            embeds: of one prompt (batch 1), or one per latent.
            seeds: those of the latents; samplers that add noise between steps draw it as the stock pipeline
                would with these seeds. Needed for such samplers at more than one step.
            draft: decode with the tiny VAE, if there is one.

        Returns:
            RGB float32 (B, 3, H, W) in [0, 1], equal to the stock pipeline's `output_type="pt"`. The clamp
            to [0, 1] passes gradient, so an over-exposed pixel can come back.
        """
        scale = GradientScale() if self.dtype == torch.float16 and torch.is_grad_enabled() else None
        embeds = embeds.expand(len(latents))
        if scale is not None:
            latents = scale.leave(latents)
            embeds = embeds.map(lambda tensor: scale.leave(tensor).to(tensor.dtype) if tensor.requires_grad else tensor)
        sample = self.sample(latents, embeds, seeds)
        images = self.decode(sample, draft=draft)
        return images if scale is None else scale.enter(images)

    def sample(self, latents: Tensor, embeds: PromptEmbeds, seeds: Sequence[int] | None) -> Tensor:
        """Clean latents (B, C, h, w) from noise, by the pipeline's scheduler."""
        scheduler = self.pipeline.scheduler
        timesteps, moved = self._timesteps(latents.device)
        options = self._step_options(self._generators(seeds) if len(timesteps) > 1 else None)
        sample = (latents * scheduler.init_noise_sigma).to(self.dtype)
        for timestep, on_device in zip(timesteps, moved, strict=True):
            output = self.denoise(scheduler.scale_model_input(sample, timestep), on_device, embeds)
            sample = self._step(output, timestep, sample, options)
        return sample

    def _timesteps(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Restart the scheduler; its timesteps on the CPU, where its tables are, and where the denoiser is.

        A scheduler whose timesteps are on the GPU looks each one up there and waits for the answer.
        """
        scheduler = self.pipeline.scheduler
        self._set_timesteps()
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)
        timesteps: Tensor = scheduler.timesteps
        key = (device, timesteps.dtype, *timesteps.tolist())
        if key not in self._moved_timesteps:
            self._moved_timesteps[key] = timesteps.to(device)
        return timesteps, self._moved_timesteps[key]

    def _set_timesteps(self) -> None:
        if self.preset.timesteps is not None:
            self.pipeline.scheduler.set_timesteps(timesteps=list(self.preset.timesteps))
        else:
            self.pipeline.scheduler.set_timesteps(self.num_inference_steps)

    def _step(self, output: Tensor, timestep: Tensor, sample: Tensor, options: dict[str, Any]) -> Tensor:
        stepped: Tensor = self.pipeline.scheduler.step(output, timestep, sample, **options, return_dict=False)[0]
        return stepped

    def _generators(self, seeds: Sequence[int] | None) -> list[torch.Generator] | None:
        """Each seed's generator as it stands after its latent was drawn."""
        if seeds is None:
            return None
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        for generator in generators:
            self._latent_of(generator)
        return generators

    @property
    def _draws_noise(self) -> bool:
        return "generator" in inspect.signature(self.pipeline.scheduler.step).parameters

    def _step_options(self, generators: list[torch.Generator] | None) -> dict[str, Any]:
        return {"generator": generators} if self._draws_noise and generators is not None else {}

    def not_captured_because(self) -> str | None:
        """Why `render` cannot be held by a CUDA graph; None where it can."""
        if self.device.type != "cuda":
            return f"the device is {self.device.type}"
        if self.memory == "low":
            return 'memory="low" recomputes activations, which a CUDA graph would keep'
        if self.num_inference_steps > 1 and type(self.pipeline.scheduler).__name__ in DRAWS_NOISE:
            return f"{type(self.pipeline.scheduler).__name__} draws noise on the CPU between steps"
        return self.captures.refused

    def save_memory(self) -> None:
        """Recompute activations in the backward instead of keeping them: `memory` becomes "low"."""
        self.memory = "low"
        self.captures.clear()
        self.denoiser.enable_gradient_checkpointing()  # type: ignore[operator]
        self.pipeline.vae.enable_gradient_checkpointing()

    def move_text_encoders(self, device: str | torch.device) -> None:
        """Put the text encoders elsewhere, once the prompts are encoded."""
        for name, component in self.pipeline.components.items():
            if name.startswith("text_encoder") and component is not None:
                component.to(device)

    def decode(self, latents: Tensor, *, draft: bool = False) -> Tensor:
        """Pictures from clean latents: RGB float32 (B, 3, H, W) in [0, 1], with gradient through the clamp."""
        vae: Any = self.tiny_vae if draft and self.tiny_vae is not None else self.pipeline.vae
        latents = latents / vae.config.scaling_factor
        if getattr(vae.config, "shift_factor", None):
            latents = latents + vae.config.shift_factor
        picture = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
        picture = picture.float() / 2 + 0.5
        return picture + (picture.clamp(0, 1) - picture).detach()
