"""Backbone for Stable Diffusion 3 and 3.5 and the few-step models distilled from them."""

from __future__ import annotations

import torch
from torch import Tensor

from countgen.backbones import Backbone, Preset, PromptEmbeds
from countgen.backbones.flow_matching import shift

TAESD3 = "madebyollin/taesd3@d58dcaccd2b36fcb7a6b9e93c1cc507acab5a778"

PRESETS = {
    "sd-3.5-turbo": Preset(
        repository="stabilityai/stable-diffusion-3.5-large-turbo",
        revision="ec07796fc06b096cc56de9762974a28f4c632eda",
        num_inference_steps=4,
        guidance_scale=0.0,
        height=1024,
        width=1024,
        licence="Stability AI Community License",
        dtype=torch.bfloat16,
        tiny_vae=TAESD3,
    ),
    "sd-3-medium": Preset(
        repository="stabilityai/stable-diffusion-3-medium-diffusers",
        revision="ea42f8cef0f178587cf766dc8129abd379c90671",
        num_inference_steps=28,
        guidance_scale=7.0,
        height=1024,
        width=1024,
        licence="Stability AI Community License",
        tiny_vae=TAESD3,
    ),
}
PIPELINE = "StableDiffusion3Pipeline"


class StableDiffusion3(Backbone):
    """`StableDiffusion3Pipeline` with gradient: two CLIP encoders and a T5 encoder, whose tokens are concatenated."""

    def embed(self, prompt: str, negative_prompt: str | None = None) -> PromptEmbeds:
        embeds, negative, pooled, negative_pooled = self._encoded(
            prompt, prompt_2=None, prompt_3=None, **self._guidance(negative_prompt)
        )
        return PromptEmbeds(
            embeds, pooled, negative_prompt_embeds=negative, negative_pooled_prompt_embeds=negative_pooled
        )

    def predict(self, latents: Tensor, timestep: Tensor, embeds: PromptEmbeds) -> Tensor:
        return self.denoiser(
            hidden_states=latents,
            timestep=timestep.expand(len(latents)),
            encoder_hidden_states=embeds.prompt_embeds,
            pooled_projections=embeds.pooled_prompt_embeds,
            return_dict=False,
        )[0]

    def _set_timesteps(self) -> None:
        self.pipeline.scheduler.set_timesteps(self.num_inference_steps, mu=shift(self, 1.16))


BACKBONE = StableDiffusion3
