"""CLIP-Count's checkpoint, as its training framework writes it, in safetensors."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from countgen import miniature
from countgen.critics import load

TOKENIZER = miniature.FOLDER / "mini-sdxl-turbo" / "tokenizer"
Tensors = Callable[[int], dict[str, Tensor]]


@pytest.fixture
def tensors(clip_count_tensors: Tensors) -> dict[str, Tensor]:
    from transformers import AutoTokenizer

    return clip_count_tensors(len(AutoTokenizer.from_pretrained(TOKENIZER)))


def test_a_checkpoint_is_read_with_or_without_its_prefix_and_with_more_than_is_needed(
    tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file(tensors, tmp_path / "plain.safetensors")
    prefixed = {f"model.{key}": value.half() for key, value in tensors.items()}
    save_file(prefixed | {"model.clip.logit_scale": torch.ones(1)}, tmp_path / "lightning.safetensors")
    images = torch.rand(2, 3, 60, 80, generator=torch.Generator().manual_seed(0))
    plain, lightning = (
        load("clip_count", weights=tmp_path / f"{name}.safetensors", tokenizer=str(TOKENIZER))
        for name in ("plain", "lightning")
    )
    assert re.fullmatch(r"clip_count:plain-[0-9a-f]{8}", plain.name)
    maps = plain.maps(images, ["red apples", "dog"])
    assert maps.shape == (2, 2, 384, 384)
    assert (maps[:, 0] != maps[:, 1]).any()
    torch.testing.assert_close(maps, lightning.maps(images, ["red apple", "dogs"]), rtol=0.05, atol=1e-4)


def test_the_text_ends_where_openais_tokenizer_ends_it(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "weights.safetensors")
    critic = load("clip_count", weights=tmp_path / "weights.safetensors", tokenizer=str(TOKENIZER))
    words = critic.tokenizer(["apple"])["input_ids"][0]
    padded = torch.tensor([words + [0] * (16 - len(words))])
    torch.testing.assert_close(critic.text("apples"), critic.counter.text_encoder(padded))


def test_a_block_is_that_of_stock_clip() -> None:
    from transformers import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPEncoderLayer

    from countgen.critics.networks.clip_count import Block

    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 2, "hidden_act": "quick_gelu"}
    torch.manual_seed(0)
    stock = CLIPEncoderLayer(CLIPTextConfig(**sizes, attn_implementation="eager")).eval()
    ours, theirs = Block(128).eval(), stock.state_dict()
    parts = [f"self_attn.{name}_proj" for name in "qkv"]
    renamed = {
        f"attn.in_proj_{end}": torch.cat([theirs[f"{part}.{end}"] for part in parts]) for end in ("weight", "bias")
    }
    names = {"self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2"}
    names |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    renamed |= {f"{b}.{end}": theirs[f"{a}.{end}"] for a, b in names.items() for end in ("weight", "bias")}
    ours.load_state_dict(renamed)
    tokens = torch.randn(2, 7, 128)
    mask = torch.full((7, 7), float("-inf")).triu(1)
    with torch.no_grad():
        expected = stock(tokens, attention_mask=mask[None, None].expand(2, 1, 7, 7))
        torch.testing.assert_close(ours(tokens, mask), expected if torch.is_tensor(expected) else expected[0])


@pytest.mark.parametrize(
    ("without", "message"),
    [("img_encoder.visual_prompt", "visual and text prompts"), ("fim_blocks.1.attn.wq.weight", "not the weights")],
)
def test_other_checkpoints_are_refused(tensors: dict[str, Tensor], tmp_path: Path, without: str, message: str) -> None:
    save_file({key: value for key, value in tensors.items() if key != without}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=message):
        load("clip_count", weights=tmp_path / "other.safetensors", tokenizer=str(TOKENIZER))


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clip_count.ckpt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"existing \.safetensors"):
        load("clip_count", weights=tmp_path / "clip_count.ckpt")
