"""PixArt-alpha and PixArt-Sigma, and their one-step student PixArt-DMD, sampled with gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from countgen import miniature
from countgen.backbones.base import Backbone, Preset, PromptEmbeds

PRESETS = {
    "miniature-pixart": Preset(
        repository=str(miniature.FOLDER / "mini-pixart-dmd"),
        num_inference_steps=1,
        guidance_scale=1.0,
        height=128,
        width=128,
        licence="Apache-2.0",
        timesteps=(400,),
    ),
    "pixart-dmd": Preset(
        repository="PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512",
        num_inference_steps=1,
        guidance_scale=1.0,
        height=512,
        width=512,
        licence="CreativeML Open RAIL++-M",
        tiny_vae="madebyollin/taesd",
        timesteps=(400,),
        scheduler="DDPMScheduler",
        scheduler_options=(("clip_sample", False),),
    ),
    "pixart-alpha": Preset(
        repository="PixArt-alpha/PixArt-XL-2-512x512",
        num_inference_steps=20,
        guidance_scale=4.5,
        height=512,
        width=512,
        licence="CreativeML Open RAIL++-M",
        tiny_vae="madebyollin/taesd",
    ),
    "pixart-sigma": Preset(
        repository="PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
        num_inference_steps=20,
        guidance_scale=4.5,
        height=1024,
        width=1024,
        licence="CreativeML Open RAIL++-M",
        tiny_vae="madebyollin/taesdxl",
    ),
}
PIPELINE = "PixArtAlphaPipeline"
"""Reads PixArt-Sigma's folders too: the transformer's config holds what differs."""


class PixArt(Backbone):
    """`PixArtAlphaPipeline` with gradient: a transformer, a T5 encoder and its attention mask."""

    def __init__(self, pipeline: Any, preset: Preset, name: str, tiny_vae: torch.nn.Module | None = None) -> None:
        super().__init__(pipeline, preset, name, tiny_vae)
        self._sizes: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}

    @property
    def denoiser(self) -> torch.nn.Module:
        transformer: torch.nn.Module = self.pipeline.transformer
        return transformer

    def encode_prompt(self, prompt: str) -> PromptEmbeds:
        embeds, mask, negative, negative_mask = self.pipeline.encode_prompt(
            prompt, self._guided, num_images_per_prompt=1, device=self.device
        )
        return PromptEmbeds(
            prompt_embeds=embeds,
            attention_mask=mask,
            negative_prompt_embeds=negative,
            negative_attention_mask=negative_mask,
        )

    def denoise(self, latents: Tensor, timestep: Tensor, embeds: PromptEmbeds) -> Tensor:
        assert embeds.attention_mask is not None
        output = self._transformer(latents, timestep, embeds.prompt_embeds, embeds.attention_mask)
        if not self._guided:
            return output
        assert embeds.negative_prompt_embeds is not None
        assert embeds.negative_attention_mask is not None
        plain = self._transformer(latents, timestep, embeds.negative_prompt_embeds, embeds.negative_attention_mask)
        return plain + self.guidance_scale * (output - plain)

    def _transformer(self, latents: Tensor, timestep: Tensor, prompt_embeds: Tensor, mask: Tensor) -> Tensor:
        output: Tensor = self.denoiser(
            latents,
            encoder_hidden_states=prompt_embeds,
            encoder_attention_mask=mask,
            timestep=timestep.expand(len(latents)),
            added_cond_kwargs=self._size_conditions(len(latents), latents.dtype, latents.device),
            return_dict=False,
        )[0]
        # Where the transformer also predicts a variance, the sampler has no use for it.
        return output[:, : latents.shape[1]]

    def _size_conditions(self, batch_size: int, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor | None]:
        """Resolution and aspect ratio, for the 1024-pixel models that were trained with them."""
        if self.pipeline.transformer.config.sample_size != 128:
            return {"resolution": None, "aspect_ratio": None}
        key = (self.height, self.width, dtype, device)
        if key not in self._sizes:
            resolution = torch.tensor([[self.height, self.width]], dtype=dtype, device=device)
            ratio = torch.tensor([[self.height / self.width]], dtype=dtype, device=device)
            self._sizes[key] = resolution, ratio
        resolution, ratio = self._sizes[key]
        return {"resolution": resolution.expand(batch_size, -1), "aspect_ratio": ratio.expand(batch_size, -1)}

    def _step(self, output: Tensor, timestep: Tensor, sample: Tensor, options: dict[str, Any]) -> Tensor:
        stepped = self.pipeline.scheduler.step(output, timestep, sample, **options, return_dict=False)
        # A one-step student's answer is the clean picture itself, not the previous step's noisy one.
        one_step = self.num_inference_steps == 1
        clean: Tensor = stepped[1 if one_step else 0]
        return clean


BACKBONE = PixArt
