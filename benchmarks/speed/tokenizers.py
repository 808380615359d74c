"""Tokenizers in the files, format and size of the published ones; of words, they know those of the miniature.

The published vocabularies are not at hand, so the rest of each is made of pairs of rare characters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from countgen.miniature.tokenizers import corpus

CLIP_MERGES = 48_894
QWEN_MERGES = 151_387
GEMMA_TOKENS = 256_000
T5_PIECES = 32_000
TINY_TOKENS = 4000
"""Size of Gemma's and Qwen3's tokenizers for a tiny model, since the large ones take ten seconds to read."""
_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
_WORD_START = "\u2581"
_RARE = [chr(number) for number in range(0x4E00, 0x4E80)]
"""128 characters that no prompt here contains."""


def write(component: Any, name: str, folder: Path, *, tiny: bool) -> None:
    """Write the tokenizer that a text encoder is published with.

    Args:
        component: the text encoder.
        name: of the tokenizer in its pipeline.
        folder: of the pipeline.
        tiny: the vocabularies of language models are small.
    """
    kind = type(component).__name__
    place = folder / name
    place.mkdir(parents=True)
    if kind.startswith("CLIPText"):
        write_clip(place, pad="!" if name == "tokenizer_2" else "<|endoftext|>")
    elif kind.startswith("T5"):
        write_t5(place, with_json=name != "tokenizer")
    elif kind.startswith("Gemma"):
        write_gemma(place, TINY_TOKENS if tiny else GEMMA_TOKENS)
    else:
        write_qwen(place, TINY_TOKENS if tiny else QWEN_MERGES)


def write_clip(folder: Path, *, pad: str) -> None:
    """CLIP's: 49,408 tokens in vocab.json and merges.txt."""
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    words = [[*word[:-1], f"{word[-1]}</w>"] for word in _words()]
    merges = list(islice(_merges(words, _high_bytes(alphabet)), CLIP_MERGES))
    special = ["<|startoftext|>", "<|endoftext|>"]
    _write_bpe(folder, [*alphabet, *(f"{letter}</w>" for letter in alphabet)], merges, special)
    names = {"bos_token": special[0], "eos_token": special[1], "unk_token": special[1], "pad_token": pad}
    _write_json(folder / "special_tokens_map.json", names)
    usual = {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77}
    _write_json(folder / "tokenizer_config.json", {**usual, **names, "tokenizer_class": "CLIPTokenizer"})


def write_t5(folder: Path, *, with_json: bool) -> None:
    """T5's: 32,000 SentencePiece pieces and 100 sentinels in spiece.model, for some models in tokenizer.json too."""
    from sentencepiece import sentencepiece_model_pb2
    from transformers import T5Tokenizer

    words = list(dict.fromkeys(_WORD_START + word for word in _words()))
    letters = sorted({letter for word in words for letter in word})
    known = dict.fromkeys((*words, *letters))
    rare = (left + right for left, right in _pairs(_RARE))
    pieces = ["<pad>", "</s>", "<unk>", *known, *islice(rare, T5_PIECES - 3 - len(known))]
    scores = [0.0 if index < 3 else -math.log(index) for index in range(len(pieces))]
    model: Any = sentencepiece_model_pb2.ModelProto()
    kinds = model.SentencePiece
    for piece, score in zip(pieces, scores, strict=True):
        kind = {"<unk>": kinds.UNKNOWN, "<pad>": kinds.CONTROL, "</s>": kinds.CONTROL}.get(piece, kinds.NORMAL)
        model.pieces.add(piece=piece, score=score, type=kind)
    model.trainer_spec.model_type = model.trainer_spec.UNIGRAM
    model.trainer_spec.pad_id, model.trainer_spec.eos_id, model.trainer_spec.unk_id = 0, 1, 2
    model.trainer_spec.bos_id = -1
    (folder / "spiece.model").write_bytes(model.SerializeToString())
    sentinels = [f"<extra_id_{number}>" for number in range(100)]
    names = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "additional_special_tokens": sentinels}
    _write_json(folder / "special_tokens_map.json", names)
    _write_json(folder / "added_tokens.json", {name: T5_PIECES + 99 - k for k, name in enumerate(sentinels)})
    usual = {"extra_ids": 100, "legacy": True, "model_max_length": 512, "sp_model_kwargs": {}}
    _write_json(folder / "tokenizer_config.json", {**usual, **names, "tokenizer_class": "T5Tokenizer"})
    if with_json:
        T5Tokenizer.from_pretrained(folder).save_pretrained(folder)


def write_gemma(folder: Path, tokens: int) -> None:
    """Gemma's: 256,000 tokens in tokenizer.json."""
    from transformers import GemmaTokenizer

    first = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{number:02X}>" for number in range(256))]
    words = [[*before, *word] for before in ([_WORD_START], []) for word in _words()]
    letters = sorted({_WORD_START, *_RARE, *(letter for word in words for letter in word)})
    merges = list(islice(_merges(words, _RARE), tokens - len(first) - len(letters)))
    everything = [*first, *letters, *("".join(merge) for merge in merges)]
    vocabulary = {token: index for index, token in enumerate(everything)}
    GemmaTokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder)


def write_qwen(folder: Path, merges: int) -> None:
    """Qwen3's: 151,643 byte-level tokens and those of a chat, in vocab.json, merges.txt and tokenizer.json."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    alphabet = sorted(ByteLevel.alphabet())
    words = [[*before, *word] for before in (["\u0120"], []) for word in _words()]
    pairs = list(islice(_merges(words, _high_bytes(alphabet)), merges))
    vocabulary = _write_bpe(folder, alphabet, pairs, [])
    special = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=pairs, model_max_length=131_072, chat_template=_CHAT)
    tokenizer.add_tokens(special, special_tokens=True)
    tokenizer.save_pretrained(folder)


def _words() -> list[str]:
    return list(dict.fromkeys(word for text in corpus(0) for word in text.split()))


def _high_bytes(alphabet: Sequence[str]) -> list[str]:
    """Return how byte-level tokenizers write bytes that plain English has none of."""
    return [letter for letter in alphabet if ord(letter) >= 0xC0 and letter != "\u0120"]


def _merges(words: Iterable[Sequence[str]], rare: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Merge each word from its beginning, then rare characters without end; every result is new."""
    known = set()
    for word in words:
        left = word[0]
        for right in word[1:]:
            if left + right not in known:
                known.add(left + right)
                yield left, right
            left += right
    yield from _pairs(rare)


def _pairs(symbols: Sequence[str]) -> Iterator[tuple[str, str]]:
    longest = list(symbols)
    while True:
        before, longest = longest, []
        for left in before:
            for right in symbols:
                longest.append(left + right)
                yield left, right


def _write_bpe(
    folder: Path, alphabet: Sequence[str], merges: Sequence[tuple[str, str]], special: Sequence[str]
) -> dict[str, int]:
    tokens = [*alphabet, *("".join(merge) for merge in merges), *special]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    assert len(vocabulary) == len(tokens)
    _write_json(folder / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return vocabulary


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
