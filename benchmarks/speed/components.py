"""Decoders and text encoders that several published models share, with random weights, from their configs."""

from __future__ import annotations

from typing import Any

from torch import nn


def vae(tiny: bool, scaling_factor: float, *, latent_channels: int = 4, shift_factor: float | None = None) -> nn.Module:
    """Stable Diffusion's decoder; its later kin with 16 channels have no convolutions around the latents."""
    from diffusers import AutoencoderKL

    widths = (32, 32, 32, 32) if tiny else (128, 256, 512, 512)
    quantised = latent_channels == 4
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=1 if tiny else 2,
        latent_channels=latent_channels,
        scaling_factor=scaling_factor,
        shift_factor=shift_factor,
        sample_size=512,
        use_quant_conv=quantised,
        use_post_quant_conv=quantised,
    )


def deep_vae(tiny: bool) -> nn.Module:
    """SANA's decoder: 32 pixels a latent."""
    from diffusers import AutoencoderDC

    widths = (8, 8, 8, 8, 8, 8) if tiny else (128, 256, 512, 512, 1024, 1024)
    types = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
    scales = ((), (), (), (5,), (5,), (5,))
    return AutoencoderDC(
        latent_channels=4 if tiny else 32,
        attention_head_dim=2 if tiny else 32,
        encoder_block_types=types,
        decoder_block_types=types,
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        encoder_layers_per_block=(1,) * 6 if tiny else (2, 2, 2, 3, 3, 3),
        decoder_layers_per_block=(1,) * 6 if tiny else (3,) * 6,
        encoder_qkv_multiscales=scales,
        decoder_qkv_multiscales=scales,
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        scaling_factor=0.41407,
    )


def packed_vae(tiny: bool) -> nn.Module:
    """FLUX.2's decoder, of 32 channels in packs of 2x2."""
    from diffusers import AutoencoderKLFlux2

    return AutoencoderKLFlux2(
        block_out_channels=(32, 32, 32, 32) if tiny else (128, 256, 512, 512),
        layers_per_block=1 if tiny else 2,
        latent_channels=4 if tiny else 32,
    )


def tiny_vae(tiny: bool, latent_channels: int) -> nn.Module:
    """The decoder of drafts."""
    from diffusers import AutoencoderTiny

    widths = (8, 8, 8, 8) if tiny else (64, 64, 64, 64)
    return AutoencoderTiny(
        encoder_block_out_channels=widths, decoder_block_out_channels=widths, latent_channels=latent_channels
    )


def clip(tiny: bool, hidden: int, layers: int, heads: int, *, projection: int | None, act: str) -> nn.Module:
    """A CLIP text encoder."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=32 if tiny else hidden,
        intermediate_size=4 * (32 if tiny else hidden),
        num_hidden_layers=2 if tiny else layers,
        num_attention_heads=4 if tiny else heads,
        projection_dim=32 if tiny else projection or hidden,
        hidden_act=act,
        # As published: transformers then pools at the highest id.
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def clip_l(tiny: bool, *, projected: bool = False) -> nn.Module:
    """OpenAI's ViT-L/14."""
    return clip(tiny, 768, 12, 12, projection=768 if projected else None, act="quick_gelu")


def clip_g(tiny: bool) -> nn.Module:
    """OpenCLIP's ViT-bigG/14."""
    return clip(tiny, 1280, 32, 20, projection=1280, act="gelu")


def t5(tiny: bool, tiny_width: int = 32) -> nn.Module:
    """T5 v1.1 XXL."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        d_model=tiny_width if tiny else 4096,
        d_ff=64 if tiny else 10240,
        d_kv=8 if tiny else 64,
        num_heads=4 if tiny else 64,
        num_layers=2 if tiny else 24,
        vocab_size=32128,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config)


def gemma(tiny: bool) -> nn.Module:
    """Gemma 2 of 2 billion weights."""
    from transformers import Gemma2Config, Gemma2Model

    sizes: dict[str, Any] = {
        "vocab_size": 4096 if tiny else 256_000,
        "hidden_size": 16 if tiny else 2304,
        "intermediate_size": 32 if tiny else 9216,
        "num_hidden_layers": 1 if tiny else 26,
        "num_attention_heads": 2 if tiny else 8,
        "num_key_value_heads": 2 if tiny else 4,
        "head_dim": 8 if tiny else 256,
    }
    return Gemma2Model(Gemma2Config(**sizes))


def qwen3(tiny: bool, *, with_head: bool = False) -> nn.Module:
    """Qwen3 of 4 billion weights; FLUX.2 reads its 28th layer, and keeps the head that it does not use."""
    from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3Model

    config = Qwen3Config(
        vocab_size=5120 if tiny else 151_936,
        hidden_size=16 if tiny else 2560,
        intermediate_size=32 if tiny else 9728,
        num_hidden_layers=28 if tiny else 36,
        num_attention_heads=2 if tiny else 32,
        num_key_value_heads=1 if tiny else 8,
        head_dim=8 if tiny else 128,
        tie_word_embeddings=True,
    )
    return (Qwen3ForCausalLM if with_head else Qwen3Model)(config)
