"""Random initial weights of a family's generator, from which a teacher is trained without shipped weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from countgen.miniature.training.generator import Family, Generator, read_pipeline

_EMBEDDER_STD = 0.02


def fresh_generator(family: Family) -> tuple[Generator, nn.Module]:
    """Return a generator with random weights, and the frozen VAE of its latents.

    Sizes, tokenizers, scheduler and VAE are the shipped pipeline's. The weights are sampled from torch's global
    generator, with the libraries' own initialisation for the U-Net and the text encoders and PixArt's for its
    transformer.
    """
    pipeline = read_pipeline(family.folder)
    encoders = ("text_encoder", "text_encoder_2") if family.name == "unet" else ("text_encoder",)
    for name in encoders:
        encoder = getattr(pipeline, name)
        setattr(pipeline, name, type(encoder)(encoder.config))
    if family.name == "unet":
        pipeline.unet = type(pipeline.unet).from_config(pipeline.unet.config)
    else:
        pipeline.transformer = type(pipeline.transformer).from_config(pipeline.transformer.config)
        initialise_pixart(pipeline.transformer)
    return Generator(family, pipeline), pipeline.vae.eval().requires_grad_(False)


@torch.no_grad()
def initialise_pixart(transformer: Any) -> None:
    """Initialise a PixArt transformer like its authors; with diffusers' default, torch's own, it trains worse.

    Linear layers are Xavier-uniform without bias, embedders N(0, 0.02). The output of every cross-attention and the
    last layer are zero: at the start the text changes nothing and the prediction is zero.

    Source: Chen et al. 2023 (PixArt-alpha), `initialize_weights` of the authors' code.
    """
    for module in transformer.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    patches = transformer.pos_embed.proj
    # The convolution of the patch embedding is a linear layer of a flattened patch, and is initialised like one.
    nn.init.xavier_uniform_(patches.weight.flatten(1))
    nn.init.zeros_(patches.bias)
    time, text = transformer.adaln_single, transformer.caption_projection
    step = time.emb.timestep_embedder
    for embedder in (step.linear_1, step.linear_2, time.linear, text.linear_1, text.linear_2):
        nn.init.normal_(embedder.weight, std=_EMBEDDER_STD)
    for last in (*(block.attn2.to_out[0] for block in transformer.transformer_blocks), transformer.proj_out):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
