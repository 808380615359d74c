"""Small untrained vision-language models, from their configurations, with a tokenizer of single characters."""

from __future__ import annotations

import string
from typing import Any

import torch

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NAMED_TOKENS = {
    "turn_token": "<|im_start|>",
    "start_image_token": "<|vision_start|>",
    "end_image_token": "<|vision_end|>",
    "context_image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "smol_image": "<image>",
    "smol_edge": "<fake_token_around_image>",
    "smol_global": "<global-img>",
}
SPECIAL = (
    "<|pad|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


def character_tokenizer() -> Any:
    """A tokenizer with a token for each ASCII character."""
    from tokenizers import Tokenizer, models
    from tokenizers.decoders import Fuse
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, *string.digits, *string.ascii_letters, *" .,?!\n\"'*-:<>/_"]
    tokenizer = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, []))
    tokenizer.decoder = Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        extra_special_tokens=NAMED_TOKENS,
    )


def talk_in_digits(model: Any, tokenizer: Any) -> None:
    """Let an untrained model answer with digits that depend on the image, and end."""
    spoken = tokenizer.convert_tokens_to_ids([*string.digits, "<|im_end|>"])
    head = model.get_output_embeddings().weight
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "norm" not in name:
                parameter *= 4
        silent = torch.ones(len(head), dtype=torch.bool)
        silent[spoken] = False
        head[silent] = 0
    # Some digits end an answer, so that it has one digit or several.
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(["<|im_end|>", *"0358"])


_LAYERS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def _text_config(tokenizer: Any, **more: Any) -> dict[str, Any]:
    text = {"vocab_size": len(tokenizer), "num_key_value_heads": 1}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    return _LAYERS | text | ends | more


def qwen() -> tuple[Any, Any]:
    """A model of Qwen3-VL and its processor."""
    from transformers import (
        AutoConfig,
        AutoModelForImageTextToText,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
        Qwen3VLProcessor,
    )

    tokenizer = character_tokenizer()
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad")}
    ends = {name: tokenizer.convert_tokens_to_ids(f"<|vision_{name}|>") for name in ("start", "end")}
    rotary = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}
    patches = {"patch_size": 8, "temporal_patch_size": 2, "spatial_merge_size": 2}
    config = AutoConfig.for_model(
        "qwen3_vl",
        text_config=_text_config(tokenizer, head_dim=16, rope_parameters=rotary),
        vision_config=vision | patches | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ends["start"],
        vision_end_token_id=ends["end"],
    )
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config)
    sizes = {"patch_size": 8, "temporal_patch_size": 2, "merge_size": 2}
    pixels = {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels, **sizes),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=pixels, **sizes),
        chat_template=TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return model, processor


def smolvlm() -> tuple[Any, Any]:
    """A model of SmolVLM and its processor."""
    from transformers import (
        AutoConfig,
        AutoModelForImageTextToText,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    tokenizer = character_tokenizer()
    config = AutoConfig.for_model(
        "smolvlm",
        text_config=_text_config(tokenizer, model_type="llama"),
        vision_config=_LAYERS | {"image_size": 32, "patch_size": 8},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    torch.manual_seed(0)
    size = {"size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 32}}
    processor = SmolVLMProcessor(
        image_processor=SmolVLMImageProcessor(do_image_splitting=False, **size),
        tokenizer=tokenizer,
        video_processor=SmolVLMVideoProcessor(**size),
        image_seq_len=4,
        chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    )
    return AutoModelForImageTextToText.from_config(config), processor
