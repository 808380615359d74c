"""The published U-Nets with their pipelines, at full size or tiny, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from countgen.backbones import PromptEmbeds
from countgen.benchmarks.speed.components import clip, clip_g, clip_l, vae

Built = tuple[Any, Callable[[], PromptEmbeds]]
"""A stock pipeline without tokenizers, and its text encoders run on a fixed prompt."""


def stable_diffusion_xl(tiny: bool, device: torch.device, scheduler: Any) -> Built:
    """SDXL and its students differ in their weights only."""
    from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(32, 64, 64) if tiny else (320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 1) if tiny else (1, 2, 10),
        attention_head_dim=(2, 4, 4) if tiny else (5, 10, 20),
        cross_attention_dim=64 if tiny else 2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8 if tiny else 256,
        projection_class_embeddings_input_dim=32 + 6 * 8 if tiny else 2816,
    )
    pipeline = StableDiffusionXLPipeline(
        vae=vae(tiny, 0.13025),
        text_encoder=clip_l(tiny),
        text_encoder_2=clip_g(tiny),
        tokenizer=None,
        tokenizer_2=None,
        unet=unet,
        scheduler=scheduler,
        add_watermarker=False,
    )
    tokens = torch.arange(1, 78, device=device)[None]

    def encode() -> PromptEmbeds:
        first = pipeline.text_encoder(tokens, output_hidden_states=True)
        second = pipeline.text_encoder_2(tokens, output_hidden_states=True)
        return PromptEmbeds(torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1), second[0])

    return pipeline, encode


def stable_diffusion_2(tiny: bool, device: torch.device, scheduler: Any) -> Built:
    """Stable Diffusion 2.1 and SD-Turbo, its student."""
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(32, 32, 64, 64) if tiny else (320, 640, 1280, 1280),
        attention_head_dim=(2, 2, 4, 4) if tiny else (5, 10, 20, 20),
        cross_attention_dim=32 if tiny else 1024,
        layers_per_block=1 if tiny else 2,
        use_linear_projection=True,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae(tiny, 0.18215),
        text_encoder=clip(tiny, 1024, 23, 16, projection=None, act="gelu"),
        tokenizer=None,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    tokens = torch.arange(1, 78, device=device)[None]
    return pipeline, lambda: PromptEmbeds(pipeline.text_encoder(tokens)[0])
