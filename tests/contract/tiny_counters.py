"""Small untrained counters: our own detector and density map, CLIP-Count, and critics made of critics."""

from __future__ import annotations

import torch
from torch import Tensor

from countgen import miniature
from countgen.critics import Critic
from tests.contract.pictures import CLASSES, enliven


def centernet() -> Critic:
    from countgen.critics.detectors.centernet import CenterNetCritic, build

    torch.manual_seed(0)
    return enliven(CenterNetCritic(build(len(CLASSES)), CLASSES), "head.1.weight", 30.0)


def density() -> Critic:
    from countgen.critics.detectors.density import DensityCritic
    from countgen.critics.networks.density import build

    torch.manual_seed(0)
    counter = build(len(CLASSES))
    with torch.no_grad():
        counter.head.weight *= 30
        counter.head.bias += 3
    return DensityCritic(counter, CLASSES)


def clip_count() -> Critic:
    from transformers import AutoTokenizer

    from countgen.critics.detectors.clip_count import ClipCountCritic
    from countgen.critics.networks.clip_count import ClipCount

    tokenizer = AutoTokenizer.from_pretrained(miniature.FOLDER / "mini-sdxl-turbo" / "tokenizer")
    network = ClipCount(clip_count_checkpoint(len(tokenizer)))
    return ClipCountCritic(network, tokenizer, name="clip_count")


def clip_count_checkpoint(words: int, width: int = 64, dim: int = 128, layers: int = 3) -> dict[str, Tensor]:
    """A state dict with the keys and proportions of the published one."""
    generator = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "patch_emb_pos_embed": (1, 16, dim),
        "img_encoder.vit.conv1.weight": (width, 3, 8, 8),
        "img_encoder.vit.class_embedding": (width,),
        "img_encoder.vit.positional_embedding": (17, width),
        "img_encoder.visual_prompt": (2, 3, width),
        "text_encoder.learnable_context": (2, width),
        "text_encoder.clip_model.token_embedding.weight": (words, width),
        "text_encoder.clip_model.positional_embedding": (16, width),
        "text_encoder.clip_model.text_projection": (width, dim),
        "decoder_norm.weight": (dim,),
    }

    def linear(key: str, inputs: int, outputs: int, *kernel: int) -> None:
        shapes[f"{key}.weight"], shapes[f"{key}.bias"] = (outputs, inputs, *kernel), (outputs,)

    def norm(key: str, size: int) -> None:
        shapes[f"{key}.weight"], shapes[f"{key}.bias"] = (size,), (size,)

    linear("patch_feat_proj", width, dim)
    linear("img_encoder.vpt_proj", width, width)
    for key in ("img_encoder.vpt_norm", "img_encoder.vit.ln_pre", "text_encoder.clip_model.ln_final"):
        norm(key, width)
    for encoder in ("img_encoder.vit", "text_encoder.clip_model"):
        for layer in range(layers):
            block = f"{encoder}.transformer.resblocks.{layer}"
            shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
            linear(f"{block}.attn.out_proj", width, width)
            linear(f"{block}.mlp.c_fc", width, 4 * width)
            linear(f"{block}.mlp.c_proj", 4 * width, width)
            norm(f"{block}.ln_1", width)
            norm(f"{block}.ln_2", width)
    for block in ("fim_blocks.0", "fim_blocks.1"):
        for key in ("norm0", "norm1", "norm2"):
            norm(f"{block}.{key}", dim)
        linear(f"{block}.conv0", dim, dim, 3, 3)
        linear(f"{block}.selfattn.qkv", dim, 3 * dim)
        for key in ("selfattn.proj", "attn.wq", "attn.wk", "attn.wv", "attn.proj"):
            linear(f"{block}.{key}", dim, dim)
        linear(f"{block}.mlp.fc1", dim, 4 * dim)
        linear(f"{block}.mlp.fc2", 4 * dim, dim)
    for level in range(4):
        linear(f"density_decoder.convs.{level}.0", dim // 2**level, dim // 2 ** (level + 1), 3, 3)
        norm(f"density_decoder.convs.{level}.1", dim // 2 ** (level + 1))
    linear("density_decoder.final_conv.0", dim // 16, 1, 1, 1)
    linear("density_decoder.pyradim_conv.0", dim, dim // 2, 1, 1)
    norm("density_decoder.pyradim_conv.1", dim // 2)
    tensors = {key: torch.randn(shape, generator=generator) * 0.3 for key, shape in shapes.items()}
    tensors["density_decoder.final_conv.0.bias"] -= 4
    return tensors


def dynamic_scale() -> Critic:
    from countgen.critics.dynamic_scale import DynamicScaleCritic

    return DynamicScaleCritic(centernet(), density())
