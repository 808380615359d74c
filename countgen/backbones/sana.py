"""Backbone for SANA-Sprint."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from countgen.backbones import Backbone, Preset, PromptEmbeds

SMALL = Preset(
    repository="Efficient-Large-Model/Sana_Sprint_0.6B_1024px_diffusers",
    revision="a7d9fc31dd5c3f5e22dbfd78360777ceed56ae97",
    num_inference_steps=2,
    guidance_scale=4.5,
    height=1024,
    width=1024,
    licence="NVIDIA License (NSCL v2-custom); the text encoder under the Gemma Terms of Use",
    dtype=torch.bfloat16,
)
LARGE = "Efficient-Large-Model/Sana_Sprint_1.6B_1024px_diffusers"
PRESETS = {"sana-sprint": SMALL, "sana-sprint-1.6b": replace(SMALL, repository=LARGE, revision=None)}
PIPELINE = "SanaSprintPipeline"


class SanaSprint(Backbone):
    """`SanaSprintPipeline` with gradient: Gemma tokens, a 32x VAE, consistency steps, and guidance as an input."""

    @property
    def _guided(self) -> bool:
        return False

    def embed(self, prompt: str, negative_prompt: str | None = None) -> PromptEmbeds:
        stock = inspect.signature(type(self.pipeline).__call__).parameters
        instruction = stock["complex_human_instruction"].default
        embeds, mask = self._encoded(prompt, complex_human_instruction=instruction)
        return PromptEmbeds(prompt_embeds=embeds, attention_mask=mask)

    def predict(self, latents: Tensor, timestep: Tensor, embeds: PromptEmbeds) -> Tensor:
        """Return TrigFlow's velocity for latents of unit variance, from a transformer trained with flow matching.

        Args:
            timestep: an angle in [0, pi / 2].

        Source: Chen et al. 2025 (SANA-Sprint), section 3.1.
        """
        time = torch.sin(timestep) / (torch.cos(timestep) + torch.sin(timestep))
        norm = torch.sqrt(time**2 + (1 - time) ** 2)
        noisy = latents * norm
        guidance = torch.full((len(latents),), self.guidance_scale, device=latents.device, dtype=self.dtype)
        flow = self.denoiser(
            noisy.to(self.dtype),
            encoder_hidden_states=embeds.prompt_embeds,
            encoder_attention_mask=embeds.attention_mask,
            guidance=guidance * self.pipeline.transformer.config.guidance_embeds_scale,
            timestep=time.expand(len(latents)),
            return_dict=False,
        )[0]
        return ((1 - 2 * time) * noisy + (1 - 2 * time + 2 * time**2) * flow) / norm

    def sample(
        self,
        latents: Tensor,
        embeds: PromptEmbeds,
        seeds: Sequence[int] | None,
        check: Callable[[], object] = lambda: None,
    ) -> Tensor:
        scheduler = self.pipeline.scheduler
        spread = scheduler.config.sigma_data
        timesteps, moved = self._timesteps(latents.device)
        options = self._step_options(seeds)
        sample = clean = latents.float() * spread
        # The last timestep is the end of the last step.
        for timestep, on_device in zip(timesteps[:-1], moved[:-1], strict=True):
            check()
            velocity = self.predict(sample / spread, on_device, embeds).float() * spread
            sample, clean = scheduler.step(velocity, timestep, sample, **options, return_dict=False)
        return clean / spread

    def _set_timesteps(self) -> None:
        stock = inspect.signature(type(self.pipeline).__call__).parameters
        two = self.num_inference_steps == 2
        self.pipeline.scheduler.set_timesteps(
            self.num_inference_steps,
            max_timesteps=stock["max_timesteps"].default,
            intermediate_timesteps=stock["intermediate_timesteps"].default if two else None,
        )


BACKBONE = SanaSprint
