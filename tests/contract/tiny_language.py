"""A small untrained vision-language model, from its configuration, with a tokenizer of single characters."""

from __future__ import annotations

import string
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models
from tokenizers.decoders import Fuse

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NAMED_TOKENS = {
    "turn_token": "<|im_start|>",
    "start_image_token": "<|vision_start|>",
    "end_image_token": "<|vision_end|>",
    "context_image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
}


def character_tokenizer() -> Any:
    """A tokenizer with a token for each ASCII character."""
    words = ["<|pad|>", "<|im_end|>", *NAMED_TOKENS.values(), *string.digits, *string.ascii_letters]
    words += " .,?!\n\"'*-:<>/_"
    tokenizer = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, []))
    tokenizer.decoder = Fuse()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        extra_special_tokens=NAMED_TOKENS,
    )


def qwen() -> tuple[Any, Any]:
    """A model of Qwen3-VL and its processor."""
    tokenizer = character_tokenizer()
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    rotary = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    text = {"vocab_size": len(tokenizer), "num_key_value_heads": 1, "head_dim": 16, "rope_parameters": rotary}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}
    patches = {"patch_size": 8, "temporal_patch_size": 2, "spatial_merge_size": 2}
    config = transformers.AutoConfig.for_model(
        "qwen3_vl",
        text_config=layers | ends | text,
        vision_config=vision | patches | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForImageTextToText.from_config(config)
    sizes = {"patch_size": 8, "temporal_patch_size": 2, "merge_size": 2}
    pixels = {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}
    processor = transformers.Qwen3VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(size=pixels, **sizes),
        tokenizer=tokenizer,
        video_processor=transformers.Qwen2VLVideoProcessor(size=pixels, **sizes),
        chat_template=TEMPLATE,
    )
    return model, processor


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
