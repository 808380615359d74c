"""Textual inversion: trained vectors are injected into a frozen pipeline's text encoders while they are used."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from countgen.backbones import Backbone, PromptEmbeds
from countgen.backbones.registry import base_model, presets
from countgen.errors import TokenFileError
from countgen.prompts import Prompt
from countgen.tokens.file import CountToken

SUBSTITUTE_ID = 0
"""The id of the ordinary token that an encoder gets in place of a placeholder.

Encoders whose config has `eos_token_id` 2, such as SDXL's second one, pool at the position of the highest id: a new id
above that of the end token would change the position.
"""
Encode = Callable[..., PromptEmbeds]


@dataclass(frozen=True)
class Encoder:
    """A text encoder of a pipeline, and the name of its tokenizer in the pipeline."""

    tokenizer: str
    module: Any

    @property
    def table(self) -> torch.nn.Embedding:
        """The input embedding; that of T5's encoder is a module of its own, which shares its weights with the model."""
        owner = self.module.encoder if _is_t5(self.module) else self.module
        return owner.get_input_embeddings()


def encoders_of(backbone: Backbone) -> dict[str, Encoder]:
    """Return the text encoders by their key in token files: "clip_l", "clip_g", "t5".

    Raises:
        ValueError: an encoder is neither CLIP nor T5; token files have no key for it.
    """
    clips = iter(("clip_l", "clip_g"))
    encoders = {}
    for name, module in backbone.pipeline.components.items():
        if not name.startswith("text_encoder") or module is None:
            continue
        class_name = type(module).__name__
        if not class_name.startswith("CLIPText") and not _is_t5(module):
            raise ValueError(f"count tokens work with CLIP and T5 text encoders; {backbone.name} has a {class_name}")
        key = "t5" if _is_t5(module) else next(clips)
        encoders[key] = Encoder(name.replace("text_encoder", "tokenizer"), module)
    return encoders


def word_vectors(backbone: Backbone, text: str, num_vectors: int = 0) -> dict[str, Tensor]:
    """Return the input embeddings of a text by text encoder, float32 (V, D).

    Args:
        backbone: its text encoders and tokenizers are used.
        text: such as a number word.
        num_vectors: V; the last embedding is repeated for a shorter text. 0 for the number of tokens of the text, the
            largest over the text encoders.

    Raises:
        ValueError: the text has no tokens for an encoder, or more than `num_vectors`.
    """
    encoders = encoders_of(backbone)
    ids: dict[str, list[int]] = {
        key: getattr(backbone.pipeline, encoder.tokenizer)(text, add_special_tokens=False).input_ids
        for key, encoder in encoders.items()
    }
    if not all(ids.values()):
        raise ValueError(f"the text {text!r} has no tokens for a text encoder of {backbone.name}")
    longest = max(map(len, ids.values()))
    number = num_vectors or longest
    if longest > number:
        raise ValueError(
            f"{text!r} is {longest} tokens long for {backbone.name} and does not fit into {number}; give "
            f"num_vectors={longest} or more"
        )
    rows = {key: [*of_text, *[of_text[-1]] * (number - len(of_text))] for key, of_text in ids.items()}
    return {key: encoder.table.weight[rows[key]].detach().float().cpu().clone() for key, encoder in encoders.items()}


def _is_t5(module: Any) -> bool:
    return "T5" in type(module).__name__


def encode_prompt(
    backbone: Backbone, prompt: str | Prompt, token: CountToken | None, negative_prompt: str | None = None
) -> PromptEmbeds:
    """Embed a prompt in which a token replaces its number; other placeholders are replaced by number words.

    Raises:
        PromptError: the prompt does not contain the token's number.
        TokenFileError: as for `check_token` and `injected`.
    """
    prompt = prompt if isinstance(prompt, Prompt) else Prompt(prompt)
    if token is None:
        return backbone.encode_prompt(prompt.text, negative_prompt)
    check_token(token, backbone)
    with injected(backbone, token.placeholder_token, token.vectors) as encode:
        return encode(prompt.with_placeholder(token.target_count), negative_prompt)


def check_token(token: CountToken, backbone: Backbone) -> None:
    """Check that a token was trained on the model of a backbone; `injected` checks that its vectors fit.

    A preset's tokens are also accepted by other models of its family, because most fine-tunes do not change the text
    encoders. A token that was trained on a fine-tune is accepted by that one only.

    Raises:
        TokenFileError: the token was trained on another base model.
    """
    loaded = base_model(backbone)
    _, _, repository = token.base_model.partition(":")
    known = presets()
    in_place_of_a_preset = backbone.name not in known and known.get(token.base_model, ("",))[0] == backbone.family
    if token.base_model not in (backbone.name, loaded) and repository != loaded and not in_place_of_a_preset:
        raise TokenFileError(
            f"{token.placeholder_token} was trained on {token.base_model!r} and does not work with {loaded!r}; load "
            "the model it was trained on (PRESET:REPOSITORY is --model REPOSITORY), or train a token on this one"
        )


@contextmanager
def injected(backbone: Backbone, placeholder: str, vectors: Mapping[str, Tensor]) -> Iterator[Encode]:
    """Inject embeddings of a placeholder token into a backbone's text encoders, and restore the backbone afterwards.

    No row of an embedding table is added or changed: the encoder gets an ordinary token in place of the placeholder,
    and the output of the embedding table is replaced by the token's vector.

    Args:
        backbone: its text encoders stay frozen.
        placeholder: name of the token in prompts.
        vectors: float (V, D) for each of `encoders_of`; they receive gradient.

    Yields:
        `backbone.encode_prompt` for prompts with the placeholder.

    Raises:
        TokenFileError: vectors are missing, or of another dimension than an encoder's.
    """
    # diffusers would expand names like "<x>_1" once more.
    names = [f"{placeholder[:-1]}.{row}>" for row in range(len(next(iter(vectors.values()))))]
    pipeline = backbone.pipeline
    with ExitStack() as undo:
        for key, encoder in encoders_of(backbone).items():
            if key not in vectors:
                raise TokenFileError(
                    f"{placeholder} has vectors for {', '.join(vectors)}; {backbone.name} needs {key} too"
                )
            shape, dim = tuple(vectors[key].shape), encoder.table.weight.shape[1]
            if shape[1:] != (dim,):
                raise TokenFileError(f"{placeholder} has {key} vectors {shape}; {backbone.name} reads (V, {dim})")
            original = getattr(pipeline, encoder.tokenizer)
            tokenizer = copy.deepcopy(original)
            tokenizer.add_tokens(names)
            setattr(pipeline, encoder.tokenizer, tokenizer)
            undo.callback(setattr, pipeline, encoder.tokenizer, original)
            _hook(encoder, tokenizer.convert_tokens_to_ids(names), vectors[key], undo)
        yield lambda prompt, *negative: backbone.encode_prompt(prompt.replace(placeholder, " ".join(names)), *negative)


def _hook(encoder: Encoder, numbers: Sequence[int], vectors: Tensor, undo: ExitStack) -> None:
    """Replace the embeddings of these token ids by vectors, until the undo."""
    positions: list[Tensor] = []

    def substitute(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        ids = args[0] if args else kwargs["input_ids"]
        positions[:] = [ids == number for number in numbers]
        ids = ids.masked_fill(torch.stack(positions).any(0), SUBSTITUTE_ID)
        return ((ids, *args[1:]), kwargs) if args else (args, {**kwargs, "input_ids": ids})

    def replace(_: Any, __: Any, embedded: Tensor) -> Tensor:
        for position, vector in zip(positions, vectors.to(embedded.device, embedded.dtype), strict=True):
            embedded = torch.where(position.to(embedded.device)[..., None], vector, embedded)
        return embedded

    undo.callback(encoder.module.register_forward_pre_hook(substitute, with_kwargs=True).remove)
    undo.callback(encoder.table.register_forward_hook(replace).remove)
