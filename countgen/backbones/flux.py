"""Backbone for FLUX.1."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from countgen.backbones import Backbone, Preset, PromptEmbeds
from countgen.backbones.flow_matching import set_linear_timesteps, shift
from countgen.backbones.preset import TAEF1

PRESETS = {
    "flux-schnell": Preset(
        repository="black-forest-labs/FLUX.1-schnell",
        revision="741f7c3ce8b383c54771c7003378a50191e9efe9",
        num_inference_steps=4,
        guidance_scale=0.0,
        height=512,
        width=512,
        licence="Apache-2.0",
        dtype=torch.bfloat16,
        max_sequence_length=256,
        tiny_vae=TAEF1,
    ),
}
PIPELINE = "FluxPipeline"


class Flux(Backbone):
    """`FluxPipeline` with gradient: a pooled CLIP vector, T5 tokens, and latents in packs of 2x2.

    Latents are (B, 16, h, w) here and are packed for the transformer only. `guidance_scale` is an input of a
    checkpoint that was distilled with guidance (FLUX.1-dev); schnell has no such input.
    """

    _packing = 2

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        packed, height, width = super().latent_shape
        return packed // 4, height, width

    @property
    def _guided(self) -> bool:
        return False

    def embed(self, prompt: str, negative_prompt: str | None = None) -> PromptEmbeds:
        embeds, pooled, _ = self._encoded(prompt)
        return PromptEmbeds(prompt_embeds=embeds, pooled_prompt_embeds=pooled)

    def predict(self, latents: Tensor, timestep: Tensor, embeds: PromptEmbeds) -> Tensor:
        height, width = latents.shape[-2] // 2, latents.shape[-1] // 2
        guidance = None
        if self.pipeline.transformer.config.guidance_embeds:
            guidance = torch.full((len(latents),), self.guidance_scale, device=latents.device, dtype=torch.float32)
        zero = torch.zeros(1, dtype=latents.dtype, device=latents.device)
        rows, columns = (torch.arange(side, dtype=zero.dtype, device=zero.device) for side in (height, width))
        output = self.denoiser(
            hidden_states=pixel_unshuffle(latents, 2).flatten(2).transpose(1, 2),
            timestep=timestep.expand(len(latents)).to(latents.dtype) / 1000,
            guidance=guidance,
            pooled_projections=embeds.pooled_prompt_embeds,
            encoder_hidden_states=embeds.prompt_embeds,
            txt_ids=embeds.prompt_embeds.new_zeros(embeds.prompt_embeds.shape[1], 3),
            img_ids=torch.cartesian_prod(zero, rows, columns),
            return_dict=False,
        )[0]
        return pixel_shuffle(output.transpose(1, 2).unflatten(2, (height, width)), 2)

    def _set_timesteps(self) -> None:
        set_linear_timesteps(self, shift(self, 1.15))


BACKBONE = Flux
