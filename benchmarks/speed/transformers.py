"""The published diffusion transformers with their pipelines, at full size or tiny, with random weights."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import pad

from countgen.backbones import PromptEmbeds
from countgen.benchmarks.speed.components import clip_g, clip_l, deep_vae, gemma, packed_vae, qwen3, t5, vae
from countgen.benchmarks.speed.unets import Built

PROMPT_TOKENS = 16
"""Tokens of the prompt; the encoders always read their whole context."""


def pixart(tiny: bool, device: torch.device, scheduler: Any, *, sigma: bool = False) -> Built:
    """PixArt-alpha, its one-step student, or PixArt-Sigma at 1024 pixels."""
    from diffusers import PixArtAlphaPipeline, PixArtTransformer2DModel

    transformer = PixArtTransformer2DModel(
        sample_size=8 if tiny else 128 if sigma else 64,
        num_layers=2 if tiny else 28,
        num_attention_heads=2 if tiny else 16,
        attention_head_dim=8 if tiny else 72,
        cross_attention_dim=16 if tiny else 1152,
        caption_channels=32 if tiny else 4096,
        out_channels=8,
        interpolation_scale=2 if sigma else 1,
        use_additional_conditions=False,
    )
    pipeline = PixArtAlphaPipeline(
        tokenizer=None,
        text_encoder=t5(tiny),
        vae=vae(tiny, 0.13025 if sigma else 0.18215),
        transformer=transformer,
        scheduler=scheduler,
    )
    tokens, mask = _prompt(300 if sigma else 120, device)

    def encode() -> PromptEmbeds:
        return PromptEmbeds(pipeline.text_encoder(tokens, attention_mask=_read(mask))[0], attention_mask=mask)

    return pipeline, encode


def flux(tiny: bool, device: torch.device, scheduler: Any) -> Built:
    """FLUX.1-schnell."""
    from diffusers import FluxPipeline, FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        in_channels=64,
        num_layers=1 if tiny else 19,
        num_single_layers=1 if tiny else 38,
        attention_head_dim=16 if tiny else 128,
        num_attention_heads=2 if tiny else 24,
        joint_attention_dim=32 if tiny else 4096,
        pooled_projection_dim=32 if tiny else 768,
        axes_dims_rope=(4, 4, 8) if tiny else (16, 56, 56),
        guidance_embeds=False,
    )
    pipeline = FluxPipeline(
        scheduler=scheduler,
        vae=vae(tiny, 0.3611, latent_channels=16, shift_factor=0.1159),
        text_encoder=clip_l(tiny),
        tokenizer=None,
        text_encoder_2=t5(tiny),
        tokenizer_2=None,
        transformer=transformer,
    )
    tokens, _ = _prompt(256, device)

    def encode() -> PromptEmbeds:
        pooled = pipeline.text_encoder(tokens[:, :77]).pooler_output
        return PromptEmbeds(pipeline.text_encoder_2(tokens)[0], pooled)

    return pipeline, encode


def stable_diffusion_3(tiny: bool, device: torch.device, scheduler: Any, *, large: bool = False) -> Built:
    """Stable Diffusion 3 medium, or 3.5 large and its student."""
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

    heads = 4 if tiny else 38 if large else 24
    transformer = SD3Transformer2DModel(
        sample_size=8 if tiny else 128,
        in_channels=16,
        out_channels=16,
        num_layers=1 if tiny else heads,
        attention_head_dim=8 if tiny else 64,
        num_attention_heads=heads,
        joint_attention_dim=64 if tiny else 4096,
        caption_projection_dim=32 if tiny else heads * 64,
        pooled_projection_dim=64 if tiny else 2048,
        pos_embed_max_size=16 if tiny else 192,
        qk_norm="rms_norm" if large else None,
    )
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=scheduler,
        vae=vae(tiny, 1.5305, latent_channels=16, shift_factor=0.0609),
        text_encoder=clip_l(tiny, projected=True),
        tokenizer=None,
        text_encoder_2=clip_g(tiny),
        tokenizer_2=None,
        text_encoder_3=t5(tiny, tiny_width=64),
        tokenizer_3=None,
    )
    tokens, _ = _prompt(256, device)
    width = 64 if tiny else 4096

    def encode() -> PromptEmbeds:
        first = pipeline.text_encoder(tokens[:, :77], output_hidden_states=True)
        second = pipeline.text_encoder_2(tokens[:, :77], output_hidden_states=True)
        clips = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
        words = [pad(clips, (0, width - clips.shape[-1])), pipeline.text_encoder_3(tokens)[0]]
        return PromptEmbeds(torch.cat(words, 1), torch.cat([first[0], second[0]], -1))

    return pipeline, encode


def sana(tiny: bool, device: torch.device, scheduler: Any, *, large: bool = False) -> Built:
    """SANA-Sprint with 0.6 or 1.6 billion weights."""
    from diffusers import SanaSprintPipeline, SanaTransformer2DModel

    layers, heads, cross_heads, cross_width = (20, 70, 20, 112) if large else (28, 36, 16, 72)
    transformer = SanaTransformer2DModel(
        sample_size=2 if tiny else 32,
        patch_size=1,
        in_channels=4 if tiny else 32,
        out_channels=4 if tiny else 32,
        num_layers=1 if tiny else layers,
        num_attention_heads=2 if tiny else heads,
        attention_head_dim=4 if tiny else 32,
        num_cross_attention_heads=2 if tiny else cross_heads,
        cross_attention_head_dim=4 if tiny else cross_width,
        cross_attention_dim=8 if tiny else cross_heads * cross_width,
        caption_channels=16 if tiny else 2304,
        qk_norm="rms_norm_across_heads",
        guidance_embeds=True,
    )
    pipeline = SanaSprintPipeline(
        tokenizer=None, text_encoder=gemma(tiny), vae=deep_vae(tiny), transformer=transformer, scheduler=scheduler
    )
    tokens, mask = _prompt(300, device)

    def encode() -> PromptEmbeds:
        return PromptEmbeds(pipeline.text_encoder(tokens, attention_mask=_read(mask))[0], attention_mask=mask)

    return pipeline, encode


def z_image(tiny: bool, device: torch.device, scheduler: Any) -> Built:
    """Z-Image-Turbo, of 6 billion weights."""
    from diffusers import ZImagePipeline, ZImageTransformer2DModel

    transformer = ZImageTransformer2DModel(
        dim=32 if tiny else 3840,
        n_layers=1 if tiny else 30,
        n_refiner_layers=1 if tiny else 2,
        n_heads=2 if tiny else 30,
        n_kv_heads=2 if tiny else 30,
        cap_feat_dim=16 if tiny else 2560,
        axes_dims=[4, 6, 6] if tiny else [32, 48, 48],
        axes_lens=[1536, 512, 512],
    )
    pipeline = ZImagePipeline(
        scheduler=scheduler,
        vae=vae(tiny, 0.3611, latent_channels=16, shift_factor=0.1159),
        text_encoder=qwen3(tiny),
        tokenizer=None,
        transformer=transformer,
    )
    tokens, _ = _prompt(PROMPT_TOKENS, device)

    def encode() -> PromptEmbeds:
        return PromptEmbeds(pipeline.text_encoder(tokens, output_hidden_states=True).hidden_states[-2])

    return pipeline, encode


def flux2(tiny: bool, device: torch.device, scheduler: Any) -> Built:
    """FLUX.2 [klein] with 4 billion weights."""
    from diffusers import Flux2KleinPipeline, Flux2Transformer2DModel

    transformer = Flux2Transformer2DModel(
        in_channels=16 if tiny else 128,
        num_layers=1 if tiny else 5,
        num_single_layers=1 if tiny else 20,
        attention_head_dim=16 if tiny else 128,
        num_attention_heads=2 if tiny else 24,
        joint_attention_dim=3 * 16 if tiny else 3 * 2560,
        axes_dims_rope=(4, 4, 4, 4) if tiny else (32, 32, 32, 32),
        guidance_embeds=False,
    )
    pipeline = Flux2KleinPipeline(
        scheduler=scheduler,
        vae=packed_vae(tiny),
        text_encoder=qwen3(tiny, with_head=True),
        tokenizer=None,
        transformer=transformer,
        is_distilled=True,
    )
    tokens, _ = _prompt(512, device)

    def encode() -> PromptEmbeds:
        states = pipeline.text_encoder(tokens, output_hidden_states=True).hidden_states
        return PromptEmbeds(torch.cat([states[layer] for layer in (9, 18, 27)], -1))

    return pipeline, encode


def _prompt(length: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.arange(1, length + 1, device=device)[None]
    return tokens, (tokens <= PROMPT_TOKENS).to(torch.long)


def _read(mask: torch.Tensor) -> torch.Tensor | None:
    """What an encoder may look into; a tensor without contents has nothing to see."""
    return None if mask.device.type == "meta" else mask
