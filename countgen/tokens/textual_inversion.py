"""Learned tokens spliced into a frozen pipeline's text encoders, for as long as they are used."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from countgen.backbones import Backbone, PromptEmbeds
from countgen.backbones.registry import base_model, presets
from countgen.errors import TokenFileError
from countgen.prompts.placeholders import spelled_out, with_placeholder
from countgen.tokens.file import CountToken

STAND_IN = 0
"""Id of the ordinary word that an encoder is shown in a placeholder's place. Encoders whose config says
`eos_token_id` 2, SDXL's second among them, pool where the highest id is: a new id above the end's would move that."""


@dataclass(frozen=True)
class Encoder:
    """One text encoder of a pipeline.

    Attributes:
        tokenizer: the name of its tokenizer in the pipeline.
        module: the encoder.
    """

    tokenizer: str
    module: Any

    @property
    def table(self) -> torch.nn.Embedding:
        """Its input embedding; T5's encoder looks up in a module of its own, which shares the weights."""
        owner = self.module.encoder if _is_t5(self.module) else self.module
        return owner.get_input_embeddings()

    @property
    def dim(self) -> int:
        """Of its input vectors."""
        return int(self.table.weight.shape[1])

    def ids_of(self, text: str, backbone: Backbone) -> list[int]:
        """The tokens of a text, at least one.

        Raises:
            ValueError: it has none.
        """
        ids: list[int] = getattr(backbone.pipeline, self.tokenizer)(text, add_special_tokens=False).input_ids
        if not ids:
            raise ValueError(f"the text {text!r} has no tokens for {backbone.name}'s {self.tokenizer}")
        return ids

    def vectors_of(self, text: str, number: int, backbone: Backbone) -> Tensor:
        """The vectors of a text, float32 (number, D); a shorter one's last vector is repeated.

        Raises:
            ValueError: the text has no tokens, or more than that: a part of a word says nothing.
        """
        ids = self.ids_of(text, backbone)
        if len(ids) > number:
            raise ValueError(
                f"{text!r} is {len(ids)} tokens long for {backbone.name}'s {self.tokenizer} and does not fit into "
                f"{number}; give num_vectors={len(ids)} or more"
            )
        rows = [*ids, *[ids[-1]] * (number - len(ids))]
        return self.table.weight[rows].detach().float().cpu().clone()

    def check(self, placeholder: str, vectors: Mapping[str, Tensor], key: str, backbone: Backbone) -> None:
        """Refuse vectors that do not fit.

        Raises:
            TokenFileError: other dims than the encoder's, none for it, or a placeholder that is a word already.
        """
        if placeholder in getattr(backbone.pipeline, self.tokenizer).get_vocab():
            raise TokenFileError(f"{placeholder} is in the vocabulary of {backbone.name}'s {self.tokenizer} already")
        if key not in vectors:
            raise TokenFileError(f"{placeholder} has vectors for {', '.join(vectors)}; {backbone.name} needs {key} too")
        shape = tuple(vectors[key].shape)
        if len(shape) != 2 or shape[1] != self.dim:
            raise TokenFileError(f"{placeholder} has {key} vectors {shape}; {backbone.name} reads (V, {self.dim})")


def encoders_of(backbone: Backbone) -> dict[str, Encoder]:
    """The text encoders by the key that token files have for them: "clip_l", "clip_g", "t5".

    Raises:
        ValueError: an encoder of another kind; no file layout is known for its tokens.
    """
    clips = iter(("clip_l", "clip_g"))
    found = {}
    for name, module in backbone.pipeline.components.items():
        if not name.startswith("text_encoder") or module is None:
            continue
        kind = type(module).__name__
        if not kind.startswith("CLIPText") and not _is_t5(module):
            raise ValueError(f"count tokens live in CLIP and T5 text encoders; {backbone.name} reads with {kind}")
        key = "t5" if _is_t5(module) else next(clips)
        found[key] = Encoder(name.replace("text_encoder", "tokenizer"), module)
    return found


def length_of(text: str, backbone: Backbone) -> int:
    """How many vectors a text takes, in the encoder that needs most."""
    return max(len(encoder.ids_of(text, backbone)) for encoder in encoders_of(backbone).values())


def _is_t5(module: Any) -> bool:
    return "T5" in type(module).__name__


def encode_prompt(
    backbone: Backbone, prompt: str, token: CountToken | None, negative_prompt: str | None = None
) -> PromptEmbeds:
    """Embed a prompt, with a token in the place of the number it stands for; other placeholders are spelled out.

    Raises:
        PromptError: the prompt does not say the token's number.
        TokenFileError: as `check_token`.
    """
    if token is None:
        return backbone.encode_prompt(spelled_out(prompt), negative_prompt)
    check_token(token, backbone)
    with spliced(backbone, {token.placeholder_token: token.vectors}) as encode:
        return encode(with_placeholder(prompt, token.target_count), negative_prompt)


def check_token(token: CountToken, backbone: Backbone) -> None:
    """Refuse a token that a backbone cannot read.

    A preset's tokens are taken by other models of its family too, since most fine-tunes leave the text encoders as
    they are; a token that was learned on a fine-tune is for that one alone.

    Raises:
        TokenFileError: of another base model, for other encoders, or in a tokenizer's vocabulary already.
    """
    here = base_model(backbone)
    _, _, repository = token.base_model.partition(":")
    known = presets()
    in_place_of_a_preset = backbone.name not in known and known.get(token.base_model, ("",))[0] == backbone.family
    if token.base_model not in (backbone.name, here) and repository != here and not in_place_of_a_preset:
        raise TokenFileError(
            f"{token.placeholder_token} was learned on {token.base_model!r} and means nothing to {here!r}; load what "
            "it was learned on (PRESET:REPOSITORY is --model REPOSITORY), or learn one here"
        )
    for key, encoder in encoders_of(backbone).items():
        encoder.check(token.placeholder_token, token.vectors, key, backbone)


@contextmanager
def spliced(backbone: Backbone, tokens: Mapping[str, Mapping[str, Tensor]]) -> Iterator[Callable[..., PromptEmbeds]]:
    """Let a backbone read placeholder tokens; afterwards it is as it was.

    No row of an embedding table is added or changed: the encoder reads an ordinary word at the placeholder's place,
    and the word's vector is replaced behind the table.

    Args:
        backbone: its text encoders stay frozen.
        tokens: placeholder to vectors, float (V, D) for each of `encoders_of`; gradient flows back to them.

    Yields:
        What `backbone.encode_prompt` is, for prompts that may hold the placeholders.

    Raises:
        TokenFileError: a placeholder that a tokenizer knows already, or vectors that do not fit the encoders.
    """
    names = {placeholder: _names(placeholder, vectors) for placeholder, vectors in tokens.items()}
    pipeline = backbone.pipeline
    with ExitStack() as undo:
        for key, encoder in encoders_of(backbone).items():
            original = getattr(pipeline, encoder.tokenizer)
            for placeholder, vectors in tokens.items():
                encoder.check(placeholder, vectors, key, backbone)
            tokenizer = copy.deepcopy(original)
            tokenizer.add_tokens([name for parts in names.values() for name in parts])
            setattr(pipeline, encoder.tokenizer, tokenizer)
            undo.callback(setattr, pipeline, encoder.tokenizer, original)
            rows = [
                (tokenizer.convert_tokens_to_ids(name), tokens[placeholder][key], row)
                for placeholder, parts in names.items()
                for row, name in enumerate(parts)
            ]
            _hook(encoder, rows, undo)

        def encode(prompt: str, negative_prompt: str | None = None) -> PromptEmbeds:
            for placeholder, parts in names.items():
                prompt = prompt.replace(placeholder, " ".join(parts))
            return backbone.encode_prompt(prompt, negative_prompt)

        yield encode


def _names(placeholder: str, vectors: Mapping[str, Tensor]) -> list[str]:
    """One word per vector. Not "<x>_1", which diffusers would look for and expand once more."""
    number = len(next(iter(vectors.values())))
    return [f"{placeholder[:-1]}.{row}>" for row in range(number)]


def _hook(encoder: Encoder, rows: list[tuple[int, Tensor, int]], undo: ExitStack) -> None:
    places: list[Tensor] = []

    def hide(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        ids = args[0] if args else kwargs["input_ids"]
        places[:] = [ids == number for number, _, _ in rows]
        shown = ids.masked_fill(torch.stack(places).any(0), STAND_IN)
        return ((shown, *args[1:]), kwargs) if args else (args, {**kwargs, "input_ids": shown})

    def replace(_: Any, __: Any, embedded: Tensor) -> Tensor:
        for place, (_, vectors, row) in zip(places, rows, strict=True):
            vector = vectors[row].to(embedded.device, embedded.dtype)
            embedded = torch.where(place.to(embedded.device)[..., None], vector, embedded)
        return embedded

    undo.callback(encoder.module.register_forward_pre_hook(hide, with_kwargs=True).remove)
    undo.callback(encoder.table.register_forward_hook(replace).remove)
