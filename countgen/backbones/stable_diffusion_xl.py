"""Stable Diffusion XL and its one-step students, sampled with gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from countgen import miniature
from countgen.backbones.base import Backbone, Preset, PromptEmbeds

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
        licence="Stability AI Non-Commercial Research Community License",
        variant="fp16",
        vae="madebyollin/sdxl-vae-fp16-fix",
        tiny_vae="madebyollin/taesdxl",
    ),
}
PIPELINE = "StableDiffusionXLPipeline"


class StableDiffusionXL(Backbone):
    """`StableDiffusionXLPipeline` with gradient: two text encoders, a pooled vector and size conditioning."""

    def __init__(self, pipeline: Any, preset: Preset, name: str, tiny_vae: torch.nn.Module | None = None) -> None:
        super().__init__(pipeline, preset, name, tiny_vae)
        self._sizes: dict[tuple[Any, ...], Tensor] = {}

    @property
    def denoiser(self) -> torch.nn.Module:
        unet: torch.nn.Module = self.pipeline.unet
        return unet

    def encode_prompt(self, prompt: str) -> PromptEmbeds:
        embeds, negative, pooled, negative_pooled = self.pipeline.encode_prompt(
            prompt, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=self._guided
        )
        return PromptEmbeds(
            prompt_embeds=embeds,
            pooled_prompt_embeds=pooled,
            negative_prompt_embeds=negative,
            negative_pooled_prompt_embeds=negative_pooled,
        )

    def denoise(self, latents: Tensor, timestep: Tensor, embeds: PromptEmbeds) -> Tensor:
        assert embeds.pooled_prompt_embeds is not None
        output = self._unet(latents, timestep, embeds.prompt_embeds, embeds.pooled_prompt_embeds)
        if not self._guided:
            return output
        assert embeds.negative_prompt_embeds is not None
        assert embeds.negative_pooled_prompt_embeds is not None
        plain = self._unet(latents, timestep, embeds.negative_prompt_embeds, embeds.negative_pooled_prompt_embeds)
        return plain + self.guidance_scale * (output - plain)

    def _unet(self, latents: Tensor, timestep: Tensor, prompt_embeds: Tensor, pooled: Tensor) -> Tensor:
        time_ids = self._time_ids(prompt_embeds.dtype, latents.device).expand(len(latents), -1)
        output: Tensor = self.denoiser(
            latents,
            timestep,
            encoder_hidden_states=prompt_embeds,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids},
            return_dict=False,
        )[0]
        return output

    def _time_ids(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Original size, crop and target size, as the stock pipeline fills them in; copied to the GPU once."""
        key = (self.height, self.width, dtype, device)
        if key not in self._sizes:
            sizes = (self.height, self.width, 0, 0, self.height, self.width)
            self._sizes[key] = torch.tensor(sizes, dtype=dtype, device=device)
        return self._sizes[key]


BACKBONE = StableDiffusionXL
