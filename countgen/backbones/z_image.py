"""Backbone for Z-Image and Z-Image-Turbo."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from countgen.backbones import Backbone, Preset, PromptEmbeds
from countgen.backbones.flow_matching import set_linear_timesteps, shift
from countgen.backbones.preset import TAEF1

PRESETS = {
    "z-image-turbo": Preset(
        repository="Tongyi-MAI/Z-Image-Turbo",
        revision="f332072aa78be7aecdf3ee76d5c247082da564a6",
        num_inference_steps=8,
        guidance_scale=0.0,
        height=1024,
        width=1024,
        licence="Apache-2.0",
        dtype=torch.bfloat16,
        tiny_vae=TAEF1,
    ),
}
PIPELINE = "ZImagePipeline"


class ZImage(Backbone):
    """`ZImagePipeline` with gradient: Qwen3 tokens without padding, and one stream of image and text tokens.

    The embeddings of a prompt are as long as the prompt. Guidance is on above 0, where the other families need more
    than 1.
    """

    _packing = 2

    def __init__(self, pipeline: Any, preset: Preset, name: str, tiny_vae: torch.nn.Module | None = None) -> None:
        super().__init__(pipeline, preset, name, tiny_vae)
        self._prepare_positions(self.device)

    @property
    def _guided(self) -> bool:
        return self.guidance_scale > 0

    @property
    def _sample_dtype(self) -> torch.dtype:
        return torch.float32

    def embed(self, prompt: str, negative_prompt: str | None = None) -> PromptEmbeds:
        embeds, negative = self._encoded(prompt, **self._guidance(negative_prompt))
        return PromptEmbeds(embeds[0][None], negative_prompt_embeds=negative[0][None] if self._guided else None)

    def predict(self, latents: Tensor, timestep: Tensor, embeds: PromptEmbeds) -> Tensor:
        """Return the velocity from image to noise; the transformer predicts its negative at one minus the time."""
        outputs = self.denoiser(
            list(latents.to(self.dtype).unsqueeze(2)),
            ((1000 - timestep) / 1000).expand(len(latents)),
            list(embeds.prompt_embeds),
            return_dict=False,
        )[0]
        return -torch.stack(outputs).squeeze(2).float()

    def denoise(self, latents: Tensor, timestep: Tensor, embeds: PromptEmbeds) -> Tensor:
        output = self.predict(latents, timestep, embeds)
        if not self._guided:
            return output
        return output + self.guidance_scale * (output - self.predict(latents, timestep, embeds.negative))

    def move_to(self, device: str | torch.device) -> None:
        super().move_to(device)
        self._prepare_positions(torch.device(device))

    def _prepare_positions(self, device: torch.device) -> None:
        """Compute the table of positions now, since the transformer would keep a fake one of the memory estimate."""
        rope: Any = self.denoiser.rope_embedder
        table = rope.freqs_cis or rope.precompute_freqs_cis(rope.axes_dims, rope.axes_lens, theta=rope.theta)
        rope.freqs_cis = [frequencies.to(device) for frequencies in table]

    def _set_timesteps(self) -> None:
        set_linear_timesteps(self, shift(self, 1.15))


BACKBONE = ZImage
