"""Stable Diffusion 1 and 2 and their one-step students, sampled with gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from countgen.backbones.base import Backbone, Preset, PromptEmbeds

PRESETS = {
    "sd-turbo": Preset(
        repository="stabilityai/sd-turbo",
        num_inference_steps=1,
        guidance_scale=0.0,
        height=512,
        width=512,
        licence="Stability AI Community License",
        variant="fp16",
        tiny_vae="madebyollin/taesd",
    ),
    "sd-2.1": Preset(
        repository="stabilityai/stable-diffusion-2-1",
        num_inference_steps=25,
        guidance_scale=7.5,
        height=768,
        width=768,
        licence="CreativeML Open RAIL++-M",
        variant="fp16",
        tiny_vae="madebyollin/taesd",
        scheduler="DPMSolverMultistepScheduler",
    ),
}
PIPELINE = "StableDiffusionPipeline"


class StableDiffusion(Backbone):
    """`StableDiffusionPipeline` with gradient: one text encoder, no pooled vector."""

    @property
    def denoiser(self) -> torch.nn.Module:
        unet: torch.nn.Module = self.pipeline.unet
        return unet

    def encode_prompt(self, prompt: str) -> PromptEmbeds:
        embeds, negative = self.pipeline.encode_prompt(
            prompt, self.device, num_images_per_prompt=1, do_classifier_free_guidance=self._guided
        )
        return PromptEmbeds(prompt_embeds=embeds, negative_prompt_embeds=negative)

    def denoise(self, latents: Tensor, timestep: Tensor, embeds: PromptEmbeds) -> Tensor:
        output = self._unet(latents, timestep, embeds.prompt_embeds)
        if not self._guided:
            return output
        assert embeds.negative_prompt_embeds is not None
        plain = self._unet(latents, timestep, embeds.negative_prompt_embeds)
        return plain + self.guidance_scale * (output - plain)

    def _unet(self, latents: Tensor, timestep: Tensor, prompt_embeds: Tensor) -> Tensor:
        output: Tensor = self.denoiser(latents, timestep, encoder_hidden_states=prompt_embeds, return_dict=False)[0]
        return output


BACKBONE = StableDiffusion
