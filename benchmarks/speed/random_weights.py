"""Published one-step models with random weights, built from their published configs; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch
import transformers

from countgen import miniature
from countgen.backbones import Backbone, presets
from countgen.backbones.registry import module_of
from countgen.critics import Critic
from countgen.critics.vocabulary import COCO_CLASSES


def build(name: str, device: torch.device) -> Backbone:
    """Build one of `MODELS` on a device, in float32 on a CPU and in bfloat16 elsewhere: float16 may overflow.

    The tokenizers are those of the embedded miniatures; prompts are padded to the published length.
    """
    parts, scheduler, options = MODELS[name]
    family, preset = presets()[name]
    module = module_of(family)
    default_dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32 if device.type == "cpu" else torch.bfloat16)
    try:
        with torch.device(device):
            components = parts()
    finally:
        torch.set_default_dtype(default_dtype)
    # Schedulers keep float32 tables on the CPU.
    components["scheduler"] = getattr(diffusers, scheduler)(**options)
    pipeline = getattr(diffusers, module.PIPELINE)(**components)
    return module.BACKBONE(pipeline, preset, name)


def build_critic(device: torch.device) -> Critic:
    """Build YOLO11m for the classes of COCO."""
    from countgen.critics.detectors.yolo import YoloCritic
    from countgen.critics.ultralytics_files import import_ultralytics

    import_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    network = DetectionModel("yolo11m.yaml", nc=len(COCO_CLASSES), verbose=False)
    return YoloCritic(network.to(device), COCO_CLASSES, name="yolo11m", image_size=640)


def _stable_diffusion() -> dict[str, Any]:
    unet = diffusers.UNet2DConditionModel(
        sample_size=64, attention_head_dim=(5, 10, 20, 20), cross_attention_dim=1024, use_linear_projection=True
    )
    return {
        "unet": unet,
        "vae": _vae(0.18215),
        "text_encoder": _clip(1024, layers=23, heads=16),
        "tokenizer": _tokenizer("mini-sdxl-turbo/tokenizer", 77),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def _stable_diffusion_xl() -> dict[str, Any]:
    unet = diffusers.UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    return {
        "unet": unet,
        "vae": _vae(0.13025),
        "text_encoder": _clip(768, layers=12, heads=12, hidden_act="quick_gelu"),
        "text_encoder_2": _clip(1280, layers=32, heads=20, projected=True),
        "tokenizer": _tokenizer("mini-sdxl-turbo/tokenizer", 77),
        "tokenizer_2": _tokenizer("mini-sdxl-turbo/tokenizer_2", 77),
        "add_watermarker": False,
    }


def _pixart() -> dict[str, Any]:
    t5_xxl = transformers.T5Config(
        d_model=4096, d_ff=10240, d_kv=64, num_heads=64, num_layers=24, vocab_size=32128, feed_forward_proj="gated-gelu"
    )
    return {
        "transformer": diffusers.PixArtTransformer2DModel(
            sample_size=64, out_channels=8, caption_channels=4096, use_additional_conditions=False
        ),
        "vae": _vae(0.18215),
        "text_encoder": transformers.T5EncoderModel(t5_xxl),
        "tokenizer": _tokenizer("mini-pixart-dmd/tokenizer", 512),
    }


def _vae(scaling_factor: float) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=2,
        sample_size=512,
        scaling_factor=scaling_factor,
    )


def _clip(width: int, *, layers: int, heads: int, hidden_act: str = "gelu", projected: bool = False) -> Any:
    config = transformers.CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        projection_dim=width,
        hidden_act=hidden_act,
        # As published: the pooled vector is read at the token with the highest id.
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    return (transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel)(config)


def _tokenizer(path: str, length: int) -> Any:
    return transformers.AutoTokenizer.from_pretrained(miniature.FOLDER / path, model_max_length=length)


_EULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "trailing",
    "steps_offset": 1,
}
MODELS: dict[str, tuple[Callable[[], dict[str, Any]], str, dict[str, Any]]] = {
    "sdxl-turbo": (_stable_diffusion_xl, "EulerAncestralDiscreteScheduler", _EULER),
    "hyper-sdxl": (_stable_diffusion_xl, "LCMScheduler", _EULER),
    "sd-turbo": (_stable_diffusion, "EulerDiscreteScheduler", _EULER),
    "pixart-dmd": (_pixart, "DDPMScheduler", {"beta_start": 1e-4, "beta_end": 0.02, "clip_sample": False}),
}
"""Presets with the function that builds their components, and the scheduler's class and options."""
