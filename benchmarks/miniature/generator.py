"""The SDXL-shaped generator of the training stages: U-Net and text encoders of a stock pipeline folder."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from countgen.miniature import FOLDER

SHIPPED = FOLDER / "mini-sdxl-turbo"
LATENT_SHAPE = (4, 32, 32)
Conditioning = tuple[Tensor, Tensor]
"""Prompt embeddings (B, L, D) and pooled prompt embeddings (B, D)."""
TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
ONE_STEP_TIMESTEP = 999


class Generator(nn.Module):
    """The U-Net and the text encoders of an SDXL-shaped pipeline for v-prediction."""

    alphas_cumprod: Tensor

    def __init__(self, pipeline: Any) -> None:
        super().__init__()
        self.unet: Any = pipeline.unet
        self.text_encoders = nn.ModuleList([getattr(pipeline, name) for name in TEXT_ENCODERS])
        self._tokenizers = (pipeline.tokenizer, pipeline.tokenizer_2)
        self.scheduler_config = dict(pipeline.scheduler.config)
        self.register_buffer("alphas_cumprod", pipeline.scheduler.alphas_cumprod.clone(), persistent=False)

    def tokenize(self, captions: Sequence[str]) -> Tensor:
        """Return the token ids of both encoders, int16 (B, 2, 32)."""
        options = {"padding": "max_length", "max_length": 32, "truncation": True, "return_tensors": "pt"}
        return torch.stack([own(list(captions), **options).input_ids for own in self._tokenizers], 1).to(torch.int16)

    def encode(self, tokens: Tensor) -> Conditioning:
        """Return text embeddings of `tokenize`'s rows, equal to the stock pipeline's, with gradient to the encoders."""
        first, second = (
            encoder(ids, output_hidden_states=True)
            for encoder, ids in zip(self.text_encoders, tokens.long().unbind(1), strict=True)
        )
        return torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1), second.text_embeds

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the v-prediction, float32 (B, 4, 32, 32), at int64 timesteps (B,)."""
        prompt_embeds, pooled_prompt_embeds = conditioning
        size = torch.tensor([128, 128, 0, 0, 128, 128], device=latents.device).expand(len(latents), 6)
        predicted: Tensor = self.unet(
            latents,
            timesteps,
            prompt_embeds,
            added_cond_kwargs={"text_embeds": pooled_prompt_embeds, "time_ids": size},
            return_dict=False,
        )[0]
        return predicted.float()

    def features(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> list[Tensor]:
        """Return the outputs of the U-Net's down blocks and of its middle block."""
        maps: list[Tensor] = []

        def keep(_: nn.Module, __: Any, output: Any) -> None:
            maps.append(output[0] if isinstance(output, tuple) else output)

        hooks = [block.register_forward_hook(keep) for block in (*self.unet.down_blocks, self.unet.mid_block)]
        self.predict(latents, timesteps, conditioning)
        for hook in hooks:
            hook.remove()
        return maps

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Return noised latents sqrt(a) x + sqrt(1-a) e and the v target sqrt(a) e - sqrt(1-a) x.

        Source: Salimans and Ho 2022.
        """
        alpha = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise, alpha.sqrt() * noise - (1 - alpha).sqrt() * latents

    def denoise(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the clean latents sqrt(a) x - sqrt(1-a) v that the v-prediction at int64 timesteps (B,) implies."""
        alpha = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return alpha.sqrt() * latents - (1 - alpha).sqrt() * self.predict(latents, timesteps, conditioning)

    def one_step(self, noise: Tensor, conditioning: Conditioning) -> Tensor:
        """Return clean latents from standard normal noise in one step, equal to the stock pipeline's."""
        timesteps = torch.full((len(noise),), ONE_STEP_TIMESTEP, device=noise.device)
        # Euler's initial latents, scaled.
        return self.denoise(noise * (1 - self.alphas_cumprod[ONE_STEP_TIMESTEP]).sqrt(), timesteps, conditioning)


def solver(generator: Generator) -> Any:
    """Return diffusers' DPM-Solver++ 2M with the betas that the generator was trained with."""
    from diffusers import DPMSolverMultistepScheduler

    names = ("beta_start", "beta_end", "beta_schedule", "prediction_type")
    return DPMSolverMultistepScheduler(
        **{name: generator.scheduler_config[name] for name in names}, algorithm_type="dpmsolver++"
    )


def read_pipeline(folder: Path) -> Any:
    """Read a stock pipeline, float32 on the CPU."""
    from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)


def read_generator(folder: Path, device: str = "cpu", *, random: bool = False) -> tuple[Generator, Any]:
    """Read a generator and its VAE, both frozen, from a stock pipeline folder, float32.

    With `random`, the generator has random weights, and the folder's sizes, tokenizers and scheduler.
    """
    pipeline = read_pipeline(folder)
    if random:
        pipeline.unet = type(pipeline.unet).from_config(pipeline.unet.config)
        for name in TEXT_ENCODERS:
            encoder = getattr(pipeline, name)
            setattr(pipeline, name, type(encoder)(encoder.config))
    generator, vae = Generator(pipeline).eval().requires_grad_(False), pipeline.vae.eval().requires_grad_(False)
    return place(generator, device), place(vae, device)


def place(module: Any, device: str) -> Any:
    """Move a network to its device in channels-last memory format, which is faster for convolutions."""
    return module.to(memory_format=torch.channels_last).to(device)


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Decode scaled latents into RGB float32 (B, 3, 128, 128), near [0, 1] but not clamped, with gradient."""
    return (vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0].float() + 1) / 2


def encode_images(vae: Any, images: Tensor) -> Tensor:
    """Encode RGB images in [0, 1] into scaled latents (B, 4, 32, 32), the mean of the posterior."""
    return vae.encode(images * 2 - 1).latent_dist.mean.float() * vae.config.scaling_factor


def export(generator: Generator, vae: nn.Module, folder: Path, *, one_step: bool) -> None:
    """Write a float16 folder that `StableDiffusionXLPipeline` loads with `use_safetensors=True`.

    Its scheduler is the shipped one for a student of one step, and DPM-Solver++ for a teacher.
    """
    pipeline = read_pipeline(SHIPPED)
    parts = {**pipeline.components, "unet": _half(generator.unet), "vae": _half(vae)}
    parts |= dict(zip(TEXT_ENCODERS, map(_half, generator.text_encoders), strict=True))
    if not one_step:
        parts["scheduler"] = solver(generator)
    type(pipeline)(**parts, force_zeros_for_empty_prompt=False).save_pretrained(folder)
    for path in folder.rglob("*.json"):  # the libraries write local paths of loaded components into their configs
        config = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(config, dict) and config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _half(module: nn.Module) -> Any:
    """Return a contiguous float16 copy on the CPU, because safetensors rejects other memory formats."""
    copied = copy.deepcopy(module).cpu().half().eval()
    for tensor in (*copied.parameters(), *copied.buffers()):
        tensor.data = tensor.data.contiguous()
    return copied
