"""The network of CLIP-Count (Jiang et al. 2023): CLIP's patches meet a text, and a decoder draws their density.

Written for inference, after the paper; parameters bear the names of the published checkpoints.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate

from countgen.critics.weights import one_line

DENSITY_SIZE = 384
"""Side of the density map in pixels."""
DENSITY_PER_OBJECT = 60.0
_HEAD_WIDTH = 64
_INTERACTION_HEADS = 8


class ClipCount(nn.Module):
    """Density of what a text names; every size is that of the tensors given.

    Args:
        tensors: a checkpoint's state dict, see `own_tensors`.

    Raises:
        ValueError: tensors are missing or have other shapes.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        missing = [key for key in ("img_encoder.visual_prompt", "text_encoder.learnable_context") if key not in tensors]
        if missing:
            raise ValueError(f"no CLIP-Count with visual and text prompts: it lacks {', '.join(missing)}")
        dim = tensors["patch_feat_proj.weight"].shape[0]
        width, _, patch_size, _ = tensors["img_encoder.vit.conv1.weight"].shape
        patches = tensors["patch_emb_pos_embed"].shape[1]
        self.image_size = patch_size * math.isqrt(patches)
        self.context_length = tensors["text_encoder.clip_model.positional_embedding"].shape[0]
        self.img_encoder = ImageEncoder(width, patch_size, patches, _layers(tensors, "img_encoder.vit."), tensors)
        self.text_encoder = TextEncoder(_layers(tensors, "text_encoder.clip_model."), tensors)
        self.patch_feat_proj = nn.Linear(width, dim)
        self.patch_emb_pos_embed = nn.Parameter(torch.zeros(1, patches, dim))
        self.fim_blocks = nn.ModuleList([Interaction(dim, scale) for scale in (1, 2)])
        self.density_decoder = Decoder(dim)
        try:
            self.load_state_dict({key: tensors[key].float() for key in self.state_dict() if key in tensors})
        except RuntimeError as error:
            raise ValueError(
                f"these are not the weights of a CLIP-Count with hierarchical interaction: {one_line(error)}"
            ) from error

    def forward(self, images: Tensor, text_embedding: Tensor) -> Tensor:
        """Density maps (B, 384, 384), 60 per object, of normalised square images and a text embedding (B, 1, D)."""
        patches = self.patch_feat_proj(self.img_encoder(images)) + self.patch_emb_pos_embed
        maps = []
        for block in self.fim_blocks:
            patches = block(patches, text_embedding)
            maps.append(_as_map(patches))
        density: Tensor = self.density_decoder(*maps)
        return density


def own_tensors(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a checkpoint's tensors without the prefix that training frameworks add."""
    return {key.removeprefix("model."): value for key, value in checkpoint.items()}


class ImageEncoder(nn.Module):
    """CLIP's ViT with prompt tokens in its first layers: (B, 3, S, S) to patches (B, P, width)."""

    def __init__(self, width: int, patch_size: int, patches: int, layers: int, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.vit: Any = nn.Module()
        self.vit.conv1 = nn.Conv2d(3, width, patch_size, patch_size, bias=False)
        self.vit.class_embedding = nn.Parameter(torch.zeros(width))
        self.vit.positional_embedding = nn.Parameter(torch.zeros(patches + 1, width))
        self.vit.ln_pre = nn.LayerNorm(width)
        self.vit.transformer = Transformer(width, layers)
        self.visual_prompt = nn.Parameter(torch.zeros_like(tensors["img_encoder.visual_prompt"], dtype=torch.float32))
        self.vpt_proj = nn.Linear(width, width)
        self.vpt_norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        vit = self.vit
        patches = vit.conv1(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([vit.class_embedding.expand(len(patches), 1, -1), patches], 1) + vit.positional_embedding
        depth, prompts, _ = self.visual_prompt.shape
        prompted = self.vpt_proj(self.visual_prompt)[:, None].expand(-1, len(patches), -1, -1)
        tokens = vit.ln_pre(torch.cat([tokens[:, :1], prompted[0], tokens[:, 1:]], 1))
        for number, block in enumerate(vit.transformer.resblocks):
            if 0 < number < depth:
                # The first prompt is used twice, before the first layer and before the second, as it was in training.
                tokens = torch.cat([tokens[:, :1], prompted[number - 1], tokens[:, 1 + prompts :]], 1)
            elif number == depth:
                tokens = torch.cat([tokens[:, :1], tokens[:, 1 + prompts :]], 1)
            tokens = block(tokens)
        return self.vpt_norm(tokens)[:, -patches.shape[1] :]


class TextEncoder(nn.Module):
    """CLIP's text encoder with learned context tokens: (B, L) token ids to (B, 1, D)."""

    def __init__(self, layers: int, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        words, width = tensors["text_encoder.clip_model.token_embedding.weight"].shape
        length = tensors["text_encoder.clip_model.positional_embedding"].shape[0]
        self.clip_model: Any = nn.Module()
        self.clip_model.token_embedding = nn.Embedding(words, width)
        self.clip_model.positional_embedding = nn.Parameter(torch.zeros(length, width))
        self.clip_model.transformer = Transformer(width, layers)
        self.clip_model.ln_final = nn.LayerNorm(width)
        self.clip_model.text_projection = nn.Parameter(
            torch.zeros_like(tensors["text_encoder.clip_model.text_projection"], dtype=torch.float32)
        )
        self.learnable_context = nn.Parameter(
            torch.zeros_like(tensors["text_encoder.learnable_context"], dtype=torch.float32)
        )

    def forward(self, token_ids: Tensor) -> Tensor:
        clip = self.clip_model
        words = clip.token_embedding(token_ids)
        context = self.learnable_context.expand(len(words), -1, -1)
        tokens = torch.cat([words[:, :1], context, words[:, 1 : -context.shape[1]]], 1) + clip.positional_embedding
        length = tokens.shape[1]
        causal = torch.full((length, length), float("-inf"), device=tokens.device).triu(1)
        for block in clip.transformer.resblocks:
            tokens = block(tokens, causal)
        # The end token has the highest id. It is read where it stood before the context moved it, as in training.
        ends = clip.ln_final(tokens)[torch.arange(len(tokens)), token_ids.argmax(1)]
        return (ends @ clip.text_projection)[:, None]


class Transformer(nn.Module):
    """The blocks of OpenAI's CLIP."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList([Block(width) for _ in range(layers)])


class Block(nn.Module):
    """Attention and an MLP, normalised first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // _HEAD_WIDTH, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        linear = (("c_fc", nn.Linear(width, 4 * width)), ("c_proj", nn.Linear(4 * width, width)))
        self.mlp: Any = nn.Sequential(OrderedDict(linear))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        seen = self.ln_1(tokens)
        tokens = tokens + self.attn(seen, seen, seen, need_weights=False, attn_mask=mask)[0]
        hidden = self.mlp.c_fc(self.ln_2(tokens))
        # CLIP's quick approximation of GELU.
        return tokens + self.mlp.c_proj(hidden * (1.702 * hidden).sigmoid())


class Interaction(nn.Module):
    """Patches look at one another and at the text, at `scale` times the resolution they come in."""

    def __init__(self, dim: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.norm0, self.norm1, self.norm2 = (nn.LayerNorm(dim) for _ in range(3))
        self.conv0 = nn.Conv2d(dim, dim, 3, 1, 1)
        self.selfattn: Any = nn.Module()
        self.selfattn.qkv, self.selfattn.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.attn: Any = nn.Module()
        for name in ("wq", "wk", "wv", "proj"):
            setattr(self.attn, name, nn.Linear(dim, dim))
        self.mlp: Any = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, patches: Tensor, text: Tensor) -> Tensor:
        if self.scale != 1:
            grid = _as_map(patches)
            grid = grid + gelu(self.conv0(grid))
            grid = interpolate(grid, scale_factor=float(self.scale), mode="bilinear", align_corners=False)
            patches = grid.flatten(2).transpose(1, 2)
        attend = self.selfattn
        patches = patches + attend.proj(_attention(*attend.qkv(self.norm0(patches)).chunk(3, -1)))
        attend = self.attn
        asked = attend.wq(self.norm1(patches))
        patches = patches + attend.proj(_attention(asked, attend.wk(text), attend.wv(text)))
        return patches + self.mlp.fc2(gelu(self.mlp.fc1(self.norm2(patches))))


class Decoder(nn.Module):
    """A coarse and a fine map (B, D, H, W) and (B, D, 2H, 2W) to a density (B, 384, 384) in [0, 1]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        widths = [dim // 2**level for level in range(5)]
        self.convs = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(wide, wide // 2, 3, 1, 1), nn.GroupNorm(8, wide // 2), nn.GELU())
                for wide in widths[:4]
            ]
        )
        self.final_conv = nn.Sequential(nn.Conv2d(widths[4], 1, 1))
        # Spelt as in the checkpoints.
        self.pyradim_conv = nn.Sequential(nn.Conv2d(dim, dim // 2, 1), nn.GroupNorm(8, dim // 2), nn.GELU())

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        grid = coarse
        for level, convolution in enumerate(self.convs):
            if level == 1:
                grid = grid + self.pyradim_conv(fine)
            grid = convolution(grid)
            size = (DENSITY_SIZE,) * 2 if level == 3 else (2 * grid.shape[-2], 2 * grid.shape[-1])
            grid = interpolate(grid, size, mode="bilinear", align_corners=False)
        return self.final_conv(grid)[:, 0].sigmoid()


def _attention(asked: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    asked, keys, values = (
        part.unflatten(-1, (_INTERACTION_HEADS, -1)).transpose(1, 2) for part in (asked, keys, values)
    )
    return nn.functional.scaled_dot_product_attention(asked, keys, values).transpose(1, 2).flatten(2)


def _as_map(patches: Tensor) -> Tensor:
    side = math.isqrt(patches.shape[1])
    return patches.transpose(1, 2).unflatten(2, (side, side))


def _layers(tensors: Mapping[str, Tensor], prefix: str) -> int:
    return sum(key.startswith(prefix + "transformer.resblocks.") and key.endswith("ln_1.weight") for key in tensors)
