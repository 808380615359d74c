"""Tiny stock pipelines of every family: real diffusers classes with random weights, built from configs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor

from countgen import backbones, miniature
from countgen.backbones import Backbone, Preset
from countgen.backbones.registry import module_of

CLIP_TOKENIZER = miniature.FOLDER / "mini-sdxl-turbo" / "tokenizer"
T5_TOKENIZER = miniature.FOLDER / "mini-pixart-dmd" / "tokenizer"
PROMPT = "a photo of three cats"
HEIGHT, WIDTH = 32, 64
"""Height and width in pixels; not square, so that a test fails if a family swaps them."""
TIMESTEPS = {"stable_diffusion_xl lcm": (800,), "pixart one step": (400,)}


def build(name: str) -> Any:
    """Return a tiny pipeline whose weights do not depend on what was built before."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = BUILDERS[name]()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


tiny = cache(build)


def tiny_backbone(name: str, steps: int = 1, guidance: float = 0.0, pipeline: Any = None) -> Any:
    """Return a backbone of a tiny pipeline, by default the one that the tests share."""
    preset = Preset("tiny", steps, guidance, HEIGHT, WIDTH, "none", timesteps=TIMESTEPS.get(name))
    return module_of(name.split()[0]).BACKBONE(pipeline or tiny(name), preset, name)


def images_of(backbone: Backbone, seeds: list[int], negative: str | None = None) -> Tensor:
    """Return what a backbone renders for `PROMPT`."""
    with torch.no_grad():
        embeds = backbone.encode_prompt(PROMPT, negative)
        return backbone.render(backbone.initial_latents(seeds), embeds, seeds)


def stock_images(pipeline: Any, backbone: Backbone, seeds: list[int], negative: str | None = None) -> Tensor:
    """Return what the stock pipeline generates for `PROMPT` with the settings of a backbone."""
    options: dict[str, Any] = {"use_resolution_binning": False} if backbone.family in ("pixart", "sana") else {}
    if negative is not None:
        options["negative_prompt"] = [negative] * len(seeds)
    if backbone.preset.timesteps is not None:
        options["timesteps"] = list(backbone.preset.timesteps)
    if backbone.family == "sana" and backbone.num_inference_steps != 2:
        options["intermediate_timesteps"] = None
    images: Tensor = pipeline(
        prompt=[PROMPT] * len(seeds),
        num_inference_steps=backbone.num_inference_steps,
        guidance_scale=backbone.guidance_scale,
        height=backbone.height,
        width=backbone.width,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="pt",
        **options,
    ).images
    return images


def tiny_decoder() -> Any:
    """Return an untrained decoder of drafts."""
    return diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
    )


def write_lora(folder: Path) -> Path:
    """Write random weights of an adapter for the miniature as diffusers does, and return the file; needs peft."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    trained = backbones.load("miniature").pipeline.unet
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trained.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=["to_k", "to_v"]))
    layers = get_peft_model_state_dict(trained)
    diffusers.StableDiffusionXLPipeline.save_lora_weights(folder, unet_lora_layers=layers)
    return folder / "pytorch_lora_weights.safetensors"


NOISE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "trailing",
    "steps_offset": 1,
}
FLOW_VAE = {"shift_factor": 0.1159, "scaling_factor": 0.3611}
TEXT = {"vocab_size": 1024, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
JOINT = {"in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2}


def _vae(latent_channels: int = 4, kind: Any = diffusers.AutoencoderKL, **options: Any) -> Any:
    return kind(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=latent_channels,
        sample_size=64,
        **options,
    )


def _clip(*, projected: bool = False) -> Any:
    config = transformers.CLIPTextConfig(
        **TEXT,
        num_hidden_layers=2,
        max_position_embeddings=32,
        projection_dim=16,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    return (transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel)(config)


def _t5() -> Any:
    config = transformers.T5Config(vocab_size=1024, d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    return transformers.T5EncoderModel(config)


def _texts(*encoders: Any) -> dict[str, Any]:
    """Return text encoders and tokenizers by their names in a pipeline."""
    parts = {}
    for suffix, encoder in zip(("", "_2", "_3"), encoders, strict=False):
        if encoder.config.model_type == "clip_text_model":
            tokenizer = transformers.CLIPTokenizer.from_pretrained(CLIP_TOKENIZER)
        else:
            tokenizer = transformers.T5Tokenizer.from_pretrained(T5_TOKENIZER, model_max_length=4096)
        parts |= {f"text_encoder{suffix}": encoder, f"tokenizer{suffix}": tokenizer}
    return parts


def _qwen3(layers: int) -> Any:
    return transformers.Qwen3Config(**TEXT, num_hidden_layers=layers, num_key_value_heads=1, head_dim=8)


def _chat_tokenizer() -> Any:
    """The miniature's words in a chat, padded on the right as Qwen3's."""
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(CLIP_TOKENIZER, model_max_length=4096)
    tokenizer.chat_template = "{% for message in messages %}user {{ message['content'] }} {% endfor %}assistant"
    return tokenizer


def _unet(**options: Any) -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=2,
        **options,
    )


def _stable_diffusion() -> Any:
    return diffusers.StableDiffusionPipeline(
        vae=_vae(),
        **_texts(_clip()),
        unet=_unet(cross_attention_dim=16),
        scheduler=diffusers.EulerDiscreteScheduler(**NOISE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _stable_diffusion_xl(scheduler: str = "EulerAncestralDiscreteScheduler") -> Any:
    return diffusers.StableDiffusionXLPipeline(
        vae=_vae(),
        **_texts(_clip(), _clip(projected=True)),
        unet=_unet(
            cross_attention_dim=32,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=16 + 6 * 4,
            use_linear_projection=True,
        ),
        scheduler=getattr(diffusers, scheduler)(**NOISE),
        add_watermarker=False,
    )


def _pixart(scheduler: Any = None, sample_size: int = 16, kind: str = "PixArtAlphaPipeline") -> Any:
    return getattr(diffusers, kind)(
        **_texts(_t5()),
        vae=_vae(),
        transformer=diffusers.PixArtTransformer2DModel(
            sample_size=sample_size,
            num_layers=2,
            num_attention_heads=2,
            attention_head_dim=12,
            cross_attention_dim=24,
            caption_channels=32,
            interpolation_scale=1,
        ),
        scheduler=scheduler or diffusers.DPMSolverMultistepScheduler(),
    )


def _flux(*, guidance_embeds: bool) -> Any:
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=guidance_embeds),
        vae=_vae(**FLOW_VAE),
        **_texts(_clip(), _t5()),
        transformer=diffusers.FluxTransformer2DModel(
            **JOINT,
            joint_attention_dim=32,
            pooled_projection_dim=16,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=guidance_embeds,
        ),
    )


def _stable_diffusion_3() -> Any:
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=16,
            in_channels=8,
            out_channels=8,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=32,
            caption_projection_dim=32,
            pooled_projection_dim=32,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(8, shift_factor=0.0609, scaling_factor=1.5305),
        **_texts(_clip(projected=True), _clip(projected=True), _t5()),
    )


def _sana() -> Any:
    gemma = transformers.Gemma2Config(**TEXT, num_hidden_layers=1, num_key_value_heads=2, head_dim=8)
    vae = diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        scaling_factor=0.41407,
    )
    return diffusers.SanaSprintPipeline(
        **_texts(transformers.Gemma2Model(gemma)),
        vae=vae,
        transformer=diffusers.SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=16,
            qk_norm="rms_norm_across_heads",
            guidance_embeds=True,
        ),
        scheduler=diffusers.SCMScheduler(),
    )


def _z_image() -> Any:
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[4, 6, 6],
    )
    for token in (transformer.x_pad_token, transformer.cap_pad_token):
        torch.nn.init.normal_(token)
    return diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(**FLOW_VAE),
        text_encoder=transformers.Qwen3Model(_qwen3(2)),
        tokenizer=_chat_tokenizer(),
        transformer=transformer,
    )


def _flux2(*, is_distilled: bool) -> Any:
    vae = _vae(kind=diffusers.AutoencoderKLFlux2)
    torch.nn.init.normal_(vae.bn.running_mean)
    torch.nn.init.uniform_(vae.bn.running_var, 0.5, 2)
    return diffusers.Flux2KleinPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae,
        text_encoder=transformers.Qwen3ForCausalLM(_qwen3(28)),
        tokenizer=_chat_tokenizer(),
        transformer=diffusers.Flux2Transformer2DModel(
            **JOINT, joint_attention_dim=3 * 16, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False
        ),
        is_distilled=is_distilled,
    )


BUILDERS: dict[str, Callable[[], Any]] = {
    "stable_diffusion": _stable_diffusion,
    "stable_diffusion_xl": _stable_diffusion_xl,
    "stable_diffusion_xl lcm": lambda: _stable_diffusion_xl("LCMScheduler"),
    "pixart": _pixart,
    "pixart one step": lambda: _pixart(diffusers.DDPMScheduler(clip_sample=False, prediction_type="v_prediction")),
    "pixart sized": lambda: _pixart(sample_size=128),
    "pixart sigma": lambda: _pixart(kind="PixArtSigmaPipeline"),
    "flux": lambda: _flux(guidance_embeds=False),
    "flux guided": lambda: _flux(guidance_embeds=True),
    "stable_diffusion_3": _stable_diffusion_3,
    "sana": _sana,
    "z_image": _z_image,
    "flux2": lambda: _flux2(is_distilled=True),
    "flux2 base": lambda: _flux2(is_distilled=False),
}
"""Builders of tiny pipelines by name: the family's file, and the variant."""
