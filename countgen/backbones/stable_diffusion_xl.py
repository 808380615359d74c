"""Backbone for Stable Diffusion XL and the one-step models distilled from it."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from countgen import miniature
from countgen.backbones import Backbone, Preset, PromptEmbeds
from countgen.backbones.preset import TAESDXL

FP16_VAE = "madebyollin/sdxl-vae-fp16-fix@207b116dae70ace3637169f1ddd2434b91b3a8cd"
BASE = Preset(
    repository="stabilityai/stable-diffusion-xl-base-1.0",
    revision="462165984030d82259a11f4367a4eed129e94a7b",
    num_inference_steps=30,
    guidance_scale=5.0,
    height=1024,
    width=1024,
    licence="CreativeML Open RAIL++-M",
    variant="fp16",
    vae=FP16_VAE,
    tiny_vae=TAESDXL,
)
PRESETS = {
    "miniature": Preset(
        repository=str(miniature.FOLDER / "mini-sdxl-turbo"),
        num_inference_steps=1,
        guidance_scale=0.0,
        height=128,
        width=128,
        licence="Apache-2.0",
    ),
    "sdxl-turbo": Preset(
        repository="stabilityai/sdxl-turbo",
        num_inference_steps=1,
        guidance_scale=0.0,
        height=512,
        width=512,
        licence="Stability AI Non-Commercial Research Community License; commercial use: https://stability.ai/license",
        revision="71153311d3dbb46851df1931d3ca6e939de83304",
        variant="fp16",
        vae=FP16_VAE,
        tiny_vae=TAESDXL,
    ),
    "hyper-sdxl": replace(
        BASE,
        denoiser="ByteDance/Hyper-SD/Hyper-SDXL-1step-Unet.safetensors@bc08d970a87c74c71209491d64e3525845698863",
        num_inference_steps=1,
        guidance_scale=0.0,
        timesteps=(800,),
        scheduler="LCMScheduler",
    ),
    "sdxl-base": BASE,
}
PIPELINE = "StableDiffusionXLPipeline"


class StableDiffusionXL(Backbone):
    """`StableDiffusionXLPipeline` with gradient: two text encoders, a pooled vector and size conditioning."""

    def embed(self, prompt: str, negative_prompt: str | None = None) -> PromptEmbeds:
        embeds, negative, pooled, negative_pooled = self._encoded(prompt, **self._guidance(negative_prompt))
        return PromptEmbeds(
            embeds, pooled, negative_prompt_embeds=negative, negative_pooled_prompt_embeds=negative_pooled
        )

    def predict(self, latents: Tensor, timestep: Tensor, embeds: PromptEmbeds) -> Tensor:
        # Original size, crop and target size, with the stock pipeline's defaults.
        sizes = (self.height, self.width, 0, 0, self.height, self.width)
        time_ids = self._constant(sizes, embeds.prompt_embeds.dtype, latents.device).expand(len(latents), -1)
        return self.denoiser(
            latents,
            timestep,
            encoder_hidden_states=embeds.prompt_embeds,
            added_cond_kwargs={"text_embeds": embeds.pooled_prompt_embeds, "time_ids": time_ids},
            return_dict=False,
        )[0]


BACKBONE = StableDiffusionXL
