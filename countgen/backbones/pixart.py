"""Backbone for PixArt-alpha, PixArt-Sigma and the distilled one-step model PixArt-DMD."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from countgen import miniature
from countgen.backbones import Backbone, Preset, PromptEmbeds
from countgen.backbones.preset import TAESD, TAESDXL

ALPHA = Preset(
    repository="PixArt-alpha/PixArt-XL-2-512x512",
    revision="50f702106901db6d0f8b67eb88e814c56ded2692",
    num_inference_steps=20,
    guidance_scale=4.5,
    height=512,
    width=512,
    licence="CreativeML Open RAIL++-M",
    tiny_vae=TAESD,
)
PRESETS = {
    "miniature-pixart": Preset(
        repository=str(miniature.FOLDER / "mini-pixart-dmd"),
        vae=str(miniature.FOLDER / "mini-sdxl-turbo" / "vae"),
        num_inference_steps=1,
        guidance_scale=1.0,
        height=128,
        width=128,
        licence="Apache-2.0",
        timesteps=(400,),
    ),
    "pixart-dmd": replace(
        ALPHA,
        # Published as a pickle only: docs/add-a-backbone.md says how to convert it.
        denoiser="PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512@57df7bb32daad69bc1d6c825a275935113802169",
        num_inference_steps=1,
        guidance_scale=1.0,
        licence="CreativeML Open RAIL++-M for the base, OpenRAIL for the one-step transformer",
        timesteps=(400,),
        scheduler="DDPMScheduler",
        scheduler_options=(("clip_sample", False),),
    ),
    "pixart-alpha": ALPHA,
    "pixart-sigma": replace(
        ALPHA,
        repository="PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
        revision="e102b3591cc82e97071b8b4cb90d834d0c487207",
        height=1024,
        width=1024,
        tiny_vae=TAESDXL,
        max_sequence_length=300,
    ),
}
PIPELINE = "PixArtAlphaPipeline"
"""The pipeline class, which also reads PixArt-Sigma's folders: the models differ only in the transformer's config."""


class PixArt(Backbone):
    """`PixArtAlphaPipeline` with gradient: a transformer, and a T5 encoder with its attention mask."""

    def embed(self, prompt: str, negative_prompt: str | None = None) -> PromptEmbeds:
        embeds, mask, negative, negative_mask = self._encoded(prompt, **self._guidance(negative_prompt or ""))
        return PromptEmbeds(
            embeds, attention_mask=mask, negative_prompt_embeds=negative, negative_attention_mask=negative_mask
        )

    def predict(self, latents: Tensor, timestep: Tensor, embeds: PromptEmbeds) -> Tensor:
        output: Tensor = self.denoiser(
            latents,
            encoder_hidden_states=embeds.prompt_embeds,
            encoder_attention_mask=embeds.attention_mask,
            timestep=timestep.expand(len(latents)),
            added_cond_kwargs=self._size_conditions(len(latents), latents.dtype, latents.device),
            return_dict=False,
        )[0]
        # Some transformers also predict a variance, which the sampler does not use.
        return output[:, : latents.shape[1]]

    def _size_conditions(self, batch_size: int, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor | None]:
        """Return resolution and aspect ratio for the 1024-pixel models, which were trained with them."""
        if self.pipeline.transformer.config.sample_size != 128:
            return {"resolution": None, "aspect_ratio": None}
        resolution = self._constant((self.height, self.width), dtype, device)
        ratio = self._constant((self.height / self.width,), dtype, device)
        return {"resolution": resolution.expand(batch_size, -1), "aspect_ratio": ratio.expand(batch_size, -1)}

    def _step(self, output: Tensor, timestep: Tensor, sample: Tensor, options: dict[str, Any]) -> Tensor:
        stepped = self.pipeline.scheduler.step(output, timestep, sample, **options, return_dict=False)
        # The output of a one-step model is the predicted clean sample, not the previous noisy sample.
        clean: Tensor = stepped[-1 if self.num_inference_steps == 1 else 0]
        return clean


BACKBONE = PixArt
