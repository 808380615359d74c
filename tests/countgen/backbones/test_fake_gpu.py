"""Every family at full size on a GPU that is not there: fake tensors raise where tensors of two devices meet."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PreTrainedModel

from countgen.backbones import Backbone, PromptEmbeds, presets
from countgen.backbones.registry import module_of
from countgen.benchmarks.speed.random_weights import MODELS
from tests.countgen.backbones.conftest import PROMPT, tiny

VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 16,
    "shift_factor": 0.1,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
CLIP_L = {"hidden_size": 768, "projection_dim": 768, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
CLIP_G = CLIP_L | {"hidden_size": 1280, "projection_dim": 1280}
T5_XXL = {"d_model": 4096}
QWEN3_4B = {"hidden_size": 2560}
SANA_SPRINT = {"guidance_embeds": True, "qk_norm": "rms_norm_across_heads"}
KLEIN = {
    "num_layers": 5,
    "num_single_layers": 20,
    "num_attention_heads": 24,
    "joint_attention_dim": 3 * 2560,
    "guidance_embeds": False,
}
FULL: dict[str, dict[str, dict[str, Any]]] = {
    "flux-schnell": {"transformer": {}, "vae": VAE, "text_encoder": CLIP_L, "text_encoder_2": T5_XXL},
    "sd-3-medium": {
        "transformer": {},
        "vae": VAE,
        "text_encoder": CLIP_L,
        "text_encoder_2": CLIP_G,
        "text_encoder_3": T5_XXL,
    },
    "sana-sprint-1.6b": {"transformer": SANA_SPRINT, "vae": {}, "text_encoder": {}},
    "z-image-turbo": {"transformer": {}, "vae": VAE},
    "flux2-klein": {"transformer": KLEIN, "vae": {}, "text_encoder": QWEN3_4B},
}
"""The published widths by preset and component, where they are not the defaults of the component's class."""


# With guidance everything is computed that is computed without it.
@pytest.mark.parametrize(
    ("name", "dtype", "guidance"),
    [
        *((name, torch.bfloat16, 4.0) for name in (*FULL, "sdxl-turbo", "sd-turbo", "pixart-dmd")),
        *((name, torch.float16, 0.0) for name in ("sd-3-medium", "sana-sprint-1.6b", "sd-turbo", "pixart-dmd")),
    ],
)
def test_everything_is_computed_on_the_gpu_in_the_dtype_of_the_backbone(
    name: str, dtype: torch.dtype, guidance: float
) -> None:
    family, preset = presets()[name]
    steps = 2 if guidance and name != "pixart-dmd" else 1  # the one-step scheduler looks for values in its table
    timesteps = preset.timesteps if steps == preset.num_inference_steps else None
    preset = replace(preset, guidance_scale=guidance, num_inference_steps=steps, timesteps=timesteps)
    stock = tiny(family)
    scheduler = scheduler_of(name) if name in MODELS else copy.deepcopy(stock.scheduler)
    mode = FakeTensorMode(allow_non_fake_inputs=True)  # of the scheduler's tables, which stay on the CPU
    with mode, torch.no_grad():
        torch.set_default_dtype(dtype)
        try:
            with torch.device("cuda"):
                parts = MODELS[name][0]() if name in MODELS else full_size(name, stock.components)
        finally:
            torch.set_default_dtype(torch.float32)
        backbone = module_of(family).BACKBONE(type(stock)(**parts | {"scheduler": scheduler}), preset, name)
    set_timesteps(backbone)
    with mode, torch.no_grad():
        if family == "z_image":  # it selects tokens by a mask, which has no shape on fake tensors
            tokens = torch.empty(1, 12, QWEN3_4B["hidden_size"], device="cuda", dtype=dtype)
            embeds = PromptEmbeds(tokens, negative_prompt_embeds=tokens)
        else:
            embeds = backbone.encode_prompt(PROMPT)
        assert {value.device.type for value in vars(embeds).values() if value is not None} == {"cuda"}
        assert embeds.prompt_embeds.dtype == dtype
        images = backbone.render(backbone.initial_latents([0, 1]), embeds, [0, 1])
        size = (2, 3, preset.height, preset.width)
        assert (images.device.type, images.dtype, images.shape) == ("cuda", torch.float32, size)


def scheduler_of(name: str) -> Any:
    """Return a preset's scheduler, whose tables are real and on the CPU."""
    _, scheduler, options = MODELS[name]
    return getattr(diffusers, scheduler)(**options)


def full_size(name: str, components: dict[str, Any]) -> dict[str, Any]:
    """Return the components of a pipeline in the published size, with the tokenizers of the tiny one."""
    sized = dict(components)
    for part, options in FULL[name].items():
        kind = type(components[part])
        is_transformers = isinstance(components[part], PreTrainedModel)
        sized[part] = kind(kind.config_class(**options)) if is_transformers else kind(**options)
    return sized


def set_timesteps(backbone: Backbone) -> None:
    """Compute the timesteps from values now: in the mode of fake tensors there are none."""
    scheduler = backbone.pipeline.scheduler
    numbers, _ = backbone._timesteps(torch.device("cpu"))
    steps = list(numbers)
    kind = type(scheduler).__name__
    if kind == "EulerDiscreteScheduler":  # compares noise levels
        scheduler.sigmas = scheduler.sigmas.tolist()
    if kind == "DDPMScheduler":  # compares timesteps, and looks for explicit ones in their table
        steps, scheduler.custom_timesteps = numbers.tolist(), False
    moved: Any = lambda device: (steps, torch.ones(len(steps), device=device))  # noqa: E731
    backbone._timesteps = moved  # type: ignore[method-assign]
