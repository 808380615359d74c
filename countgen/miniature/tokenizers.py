"""The miniature's two tokenizers, built from captions of its world.

`python -m countgen.miniature.tokenizers FOLDER` builds both, into `FOLDER/clip` and `FOLDER/t5`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from countgen.miniature.world import NUMBER_WORDS, OBJECT_NAMES, PLURALS, caption, sample_scenes

MAX_LENGTH = 32
"""The number of tokens of a caption, padding included."""

# OpenAI's pattern, which separates digits, words and punctuation.
_CLIP_PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_CLIP_SPECIAL = ("<|startoftext|>", "<|endoftext|>")
_SINGLE_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,-'!?"
_WORD_START = "\u2581"
_RARE = -14.0


def corpus(number: int = 6000, seed: int = 0) -> list[str]:
    """Return the captions that the vocabulary is trained on: sampled ones, then every object with every number."""
    rng = np.random.default_rng(seed)
    # All scenes are sampled before the captions: the shipped vocabulary depends on the order of the random numbers.
    scenes = sample_scenes(number, rng, max_count=12)
    texts = [caption(scene, rng) for scene in scenes]
    texts += [f"a photo of {word} {plural}" for word in NUMBER_WORDS for plural in PLURALS]
    texts += [f"a photo of {count} {plural}" for count in range(len(NUMBER_WORDS)) for plural in PLURALS]
    return texts + [f"a photo of one {name}" for name in OBJECT_NAMES] * 3


def build_clip_tokenizer(folder: Path, texts: list[str]) -> None:
    """Train a byte-level BPE tokenizer like CLIP's and save it as transformers' `CLIPTokenizer`.

    The merges are reproducible, but the library numbers about thirty single characters differently each time. A model
    therefore needs the tokenizer that it was trained with.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    end = _CLIP_SPECIAL[1]
    tokenizer = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=end))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    split = pre_tokenizers.Split(Regex(_CLIP_PATTERN), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        min_frequency=2,
        end_of_word_suffix="</w>",
        special_tokens=[],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    vocabulary: dict[str, int] = dict(learned["vocab"])
    # Every byte can also end a word, so that no text has unknown tokens.
    for token in (*(letter + "</w>" for letter in alphabet), *_CLIP_SPECIAL):
        vocabulary.setdefault(token, len(vocabulary))
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in learned["merges"]]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": MAX_LENGTH,
        "bos_token": _CLIP_SPECIAL[0],
        "eos_token": end,
        "unk_token": end,
        "pad_token": end,
        "add_prefix_space": False,
        "errors": "replace",
        "do_lower_case": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)


def build_t5_tokenizer(folder: Path, texts: list[str]) -> None:
    """Build a unigram tokenizer over whole words like T5's (pad 0, end 1, unknown 2) and save it as `T5Tokenizer`."""
    from transformers import T5Tokenizer

    words = Counter(word for text in texts for word in text.split())
    letters = sorted({letter for word in words for letter in word} | set(_SINGLE_CHARACTERS))
    total = sum(words.values())
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(_WORD_START + word, math.log(count / total)) for word, count in words.most_common()]
    known = {piece for piece, _ in pieces}
    spelled = dict.fromkeys([_WORD_START, *letters, *(_WORD_START + letter for letter in letters)])
    pieces += [(piece, _RARE) for piece in spelled if piece not in known]
    T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=MAX_LENGTH).save_pretrained(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Build both tokenizers; usage errors exit with status 2 and one line."""
    parser = argparse.ArgumentParser(prog="python -m countgen.miniature.tokenizers", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder for the tokenizers; existing files are replaced")
    folder = parser.parse_args(arguments).folder
    texts = corpus()
    try:
        for name, build in (("clip", build_clip_tokenizer), ("t5", build_t5_tokenizer)):
            build(folder / name, texts)
            print(folder / name)
    except OSError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
