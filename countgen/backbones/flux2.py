"""Backbone for FLUX.2 [klein]."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from torch import Tensor
from torch.nn.functional import pixel_shuffle

from countgen.backbones import Backbone, Preset, PromptEmbeds
from countgen.backbones.flow_matching import num_tokens, set_linear_timesteps

PRESETS = {
    "flux2-klein": Preset(
        repository="black-forest-labs/FLUX.2-klein-4B",
        revision="e7b7dc27f91deacad38e78976d1f2b499d76a294",
        num_inference_steps=4,
        guidance_scale=1.0,
        height=1024,
        width=1024,
        licence="Apache-2.0",
        dtype=torch.bfloat16,
    ),
}
PIPELINE = "Flux2KleinPipeline"


class Flux2Klein(Backbone):
    """`Flux2KleinPipeline` with gradient: Qwen3 tokens of three layers, and latents of packs of 2x2.

    Latents are (B, 128, H / 16, W / 16), as the transformer reads them. A distilled checkpoint ignores guidance.
    """

    _packing = 2

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        packed, height, width = super().latent_shape
        return packed, height // 2, width // 2

    @property
    def _guided(self) -> bool:
        return super()._guided and not self.pipeline.config.is_distilled

    def embed(self, prompt: str, negative_prompt: str | None = None) -> PromptEmbeds:
        negative = self._encoded(negative_prompt or "")[0] if self._guided else None
        return PromptEmbeds(self._encoded(prompt)[0], negative_prompt_embeds=negative)

    def predict(self, latents: Tensor, timestep: Tensor, embeds: PromptEmbeds) -> Tensor:
        height, width = latents.shape[-2:]
        rows = torch.arange(height, device=latents.device)
        columns = torch.arange(width, device=latents.device)
        words = torch.arange(embeds.prompt_embeds.shape[1], device=latents.device)
        none = rows[:1]
        output = self.denoiser(
            hidden_states=latents.flatten(2).transpose(1, 2),
            timestep=timestep.expand(len(latents)).to(latents.dtype) / 1000,
            guidance=None,
            encoder_hidden_states=embeds.prompt_embeds,
            # Four coordinates: of an image among several, row, column, and position in the prompt.
            txt_ids=torch.cartesian_prod(none, none, none, words),
            img_ids=torch.cartesian_prod(none, rows, columns, none),
            return_dict=False,
        )[0]
        return output.transpose(1, 2).unflatten(2, (height, width))

    def _set_timesteps(self) -> None:
        set_linear_timesteps(self, compute_empirical_mu(num_tokens(self), self.num_inference_steps))

    def _vae_latents(self, latents: Tensor, vae: Any) -> Tensor:
        """Undo the normalisation of each channel of a pack, which the VAE's batch norm holds, and the packing."""
        mean = vae.bn.running_mean.view(1, -1, 1, 1).to(latents)
        deviation = (vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps).sqrt().to(latents)
        return pixel_shuffle(latents * deviation + mean, 2)


BACKBONE = Flux2Klein
