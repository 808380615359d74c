"""Published architectures at full size with random weights, built from their configs: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from countgen import backbones
from countgen.backbones import Backbone, PromptEmbeds
from critics.base import Critic

SIZES = ("full", "tiny")
PROMPT_TOKENS = 16
"""Of the prompt; the encoders always read their whole context."""

_NOISE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "trailing",
    "steps_offset": 1,
}


@dataclass(frozen=True)
class BuiltModel:
    """A backbone with random weights.

    Attributes:
        backbone: as `countgen.backbones.load` would give it, with a tiny decoder; it has no tokenizer.
        encode: runs its text encoders once on a fixed prompt.
        free_encoders: drops them.
    """

    backbone: Backbone
    encode: Callable[[], PromptEmbeds]
    free_encoders: Callable[[], None]


def build(name: str, size: str, device: torch.device, dtype: torch.dtype) -> BuiltModel:
    """Build one of `MODELS` directly on a device, in the precision it runs in."""
    if name not in MODELS or size not in SIZES:
        raise ValueError(f"no {name!r} at size {size!r}; models: {', '.join(MODELS)}; sizes: {', '.join(SIZES)}")
    import diffusers

    make, class_name, options = MODELS[name]
    # Made outside: schedulers keep their tables on the CPU, in float32.
    scheduler = getattr(diffusers, class_name)(**options)
    with _born(device, dtype):
        return make(size == "tiny", device, scheduler)


def build_critic(size: str, device: torch.device, image_size: int | None = None) -> Critic:
    """YOLO11m at 640 pixels, or YOLO11n at 64, with random weights; it knows "apple"."""
    from critics.detectors.yolo import YoloCritic
    from critics.ultralytics_files import import_ultralytics

    import_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    letter, side = ("n", 64) if size == "tiny" else ("m", 640)
    names = ("apple", *(f"class {index}" for index in range(1, 80)))
    model = DetectionModel(f"yolo11{letter}.yaml", nc=len(names), verbose=False)
    return YoloCritic(model.float().to(device), names, name=f"yolo11{letter}", image_size=image_size or side)


@contextmanager
def _born(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


def _vae(tiny: bool, scaling_factor: float) -> nn.Module:
    from diffusers import AutoencoderKL

    widths = (32, 32, 32, 32) if tiny else (128, 256, 512, 512)
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=1 if tiny else 2,
        latent_channels=4,
        scaling_factor=scaling_factor,
        sample_size=512,
    )


def _tiny_vae(tiny: bool) -> nn.Module:
    from diffusers import AutoencoderTiny

    widths = (8, 8, 8, 8) if tiny else (64, 64, 64, 64)
    return AutoencoderTiny(encoder_block_out_channels=widths, decoder_block_out_channels=widths)


def _clip(tiny: bool, hidden: int, layers: int, heads: int, *, projection: int | None, act: str) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=32 if tiny else hidden,
        intermediate_size=4 * (32 if tiny else hidden),
        num_hidden_layers=2 if tiny else layers,
        num_attention_heads=4 if tiny else heads,
        projection_dim=32 if tiny else projection or hidden,
        hidden_act=act,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def _finish(
    name: str, pipeline: Any, tiny: bool, encode: Callable[[], PromptEmbeds], encoders: tuple[str, ...]
) -> BuiltModel:
    family, preset = backbones.presets()[name]
    if tiny:
        preset = replace(preset, height=64, width=64)
    module = __import__(f"countgen.backbones.{family}", fromlist=["BACKBONE"])
    backbone: Backbone = module.BACKBONE(pipeline, preset, name, _tiny_vae(tiny))

    def free_encoders() -> None:
        for encoder in encoders:
            setattr(pipeline, encoder, None)

    return BuiltModel(backbone, encode, free_encoders)


def _sdxl_turbo(tiny: bool, device: torch.device, scheduler: Any) -> BuiltModel:
    from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel

    width = 64 if tiny else 2048
    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(32, 64, 64) if tiny else (320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 1) if tiny else (1, 2, 10),
        attention_head_dim=(2, 4, 4) if tiny else (5, 10, 20),
        cross_attention_dim=width,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8 if tiny else 256,
        projection_class_embeddings_input_dim=32 + 6 * 8 if tiny else 2816,
    )
    pipeline = StableDiffusionXLPipeline(
        vae=_vae(tiny, 0.13025),
        text_encoder=_clip(tiny, 768, 12, 12, projection=None, act="quick_gelu"),
        text_encoder_2=_clip(tiny, 1280, 32, 20, projection=1280, act="gelu"),
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

    return _finish("sdxl-turbo", pipeline, tiny, encode, ("text_encoder", "text_encoder_2"))


def _sd_turbo(tiny: bool, device: torch.device, scheduler: Any) -> BuiltModel:
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
        vae=_vae(tiny, 0.18215),
        text_encoder=_clip(tiny, 1024, 23, 16, projection=None, act="gelu"),
        tokenizer=None,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    tokens = torch.arange(1, 78, device=device)[None]

    def encode() -> PromptEmbeds:
        return PromptEmbeds(pipeline.text_encoder(tokens)[0])

    return _finish("sd-turbo", pipeline, tiny, encode, ("text_encoder",))


def _pixart_dmd(tiny: bool, device: torch.device, scheduler: Any) -> BuiltModel:
    from diffusers import PixArtAlphaPipeline, PixArtTransformer2DModel
    from transformers import T5Config, T5EncoderModel

    transformer = PixArtTransformer2DModel(
        sample_size=8 if tiny else 64,
        num_layers=2 if tiny else 28,
        num_attention_heads=2 if tiny else 16,
        attention_head_dim=8 if tiny else 72,
        cross_attention_dim=16 if tiny else 1152,
        caption_channels=32 if tiny else 4096,
        out_channels=8,
        interpolation_scale=1,
    )
    t5 = T5Config(
        d_model=32 if tiny else 4096,
        d_ff=64 if tiny else 10240,
        d_kv=8 if tiny else 64,
        num_heads=4 if tiny else 64,
        num_layers=2 if tiny else 24,
        vocab_size=1000 if tiny else 32128,
        feed_forward_proj="gated-gelu",
    )
    pipeline = PixArtAlphaPipeline(
        tokenizer=None,
        text_encoder=T5EncoderModel(t5),
        vae=_vae(tiny, 0.18215),
        transformer=transformer,
        scheduler=scheduler,
    )
    tokens = torch.arange(1, 121, device=device)[None]
    mask = (tokens <= PROMPT_TOKENS).to(torch.long)

    def encode() -> PromptEmbeds:
        # The encoder reads its mask, which a tensor without contents does not have.
        seen = None if device.type == "meta" else mask
        return PromptEmbeds(pipeline.text_encoder(tokens, attention_mask=seen)[0], attention_mask=mask)

    return _finish("pixart-dmd", pipeline, tiny, encode, ("text_encoder",))


MODELS: dict[str, tuple[Callable[[bool, torch.device, Any], BuiltModel], str, dict[str, Any]]] = {
    "sdxl-turbo": (_sdxl_turbo, "EulerAncestralDiscreteScheduler", _NOISE),
    "sd-turbo": (_sd_turbo, "EulerDiscreteScheduler", _NOISE),
    "pixart-dmd": (_pixart_dmd, "DDPMScheduler", {"beta_start": 1e-4, "beta_end": 0.02, "clip_sample": False}),
}
"""What builds each, and its scheduler."""
